"""What a box costs against a cloud API, by a dated list of prices. Pure; money is `Decimal`.

USD is counted where clouds charge it, KRW where servers are bought; both meet in KRW, because a
product with the rate is exact and a quotient is not. Nothing is rounded before it is shown.
"""

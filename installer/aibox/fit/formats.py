"""What a card does with weights and contexts in a format: compute, only store, or refuse."""

from __future__ import annotations

from collections.abc import Iterator

from aibox.fit.blocks import Kind
from aibox.fit.engine import Engine
from aibox.fit.shapes import Shape
from aibox.hardware import NATIVE_FROM, Quantisation

IMAGE_FROM = (7, 5)
"""The least compute capability the engine's own image is built for."""
BFLOAT16_FROM = (8, 0)

# The least the engine accepts, by the class of each format in vLLM 0.32.
_ACCEPTED_FROM = {
    "fp8": (7, 5),
    "awq": (7, 5),
    "gptq": (6, 0),
    "compressed-tensors": (7, 0),
    "modelopt": (7, 5),
    "modelopt-fp4": (7, 5),
    "mxfp4": (8, 0),
}
_NAMES = {
    "fp8": Quantisation.FP8,
    "mxfp4": Quantisation.MXFP4,
    "modelopt": Quantisation.FP8,
    "modelopt-fp4": Quantisation.NVFP4,
    "compressed-tensors": Quantisation.COMPRESSED_TENSORS,
}
_OUTSIDE = ("bitsandbytes", "gguf")
_FLASHINFER_WIDTHS = (64, 128, 256, 512)
_NOT_FLASHINFER = ("GptOss", "Gemma3ForConditional", "Gemma4ForConditional")
"""Classes with attention sinks, or that read a picture both ways: other kernels take them."""
_NOT_IN_HALF = ("Gemma2", "Gemma3")
"""Classes that the engine does not compute in float16 (vLLM's config/model.py)."""


def obstacles(shape: Shape, engine: Engine, compute: tuple[int, int]) -> Iterator[str]:
    """Why the engine would refuse this model on a card of this compute capability."""
    dtype = engine.dtype
    told = _told(compute)
    if compute < IMAGE_FROM:
        yield f"the engine's image is for compute capability 7.5 and more; this card has {told}"
    if dtype == "bfloat16" and compute < BFLOAT16_FROM:
        yield f"the engine refuses bfloat16 below compute capability 8.0; this card has {told}"
    if dtype in ("half", "float16") and not computes_in_half(shape):
        yield f"the engine refuses float16 for a {shape.architecture}, whose numbers outgrow it"
    method = shape.quantised.method if shape.quantised else ""
    if method in _OUTSIDE:
        yield f"{method} is no longer in the engine; it needs a plugin that the image lacks"
    least = _ACCEPTED_FROM.get(method)
    if least is not None and compute < least:
        yield f"the engine takes {method} from compute capability {_told(least)}; this is {told}"
    if _keeps_fp8(shape, engine) and not _reads_fp8(shape, compute):
        yield (
            "no attention kernel of the engine that takes this model keeps contexts in FP8 on "
            f"compute capability {told}; with kv-cache-dtype={plain_cache(compute)} it starts"
        )


def computes_in_half(shape: Shape) -> bool:
    """Whether the engine computes a class of models in float16."""
    return not shape.architecture.startswith(_NOT_IN_HALF)


def computed_in(shape: Shape, compute: tuple[int, int] | None, dtype: str) -> str:
    """What the engine computes in on a card, told `dtype`: 16 bits where both can, else 32."""
    if dtype != "auto":
        return "float32" if dtype == "float" else dtype
    old = compute is not None and compute < BFLOAT16_FROM
    return "float32" if old and not computes_in_half(shape) else "auto"


def notes(shape: Shape, engine: Engine, compute: tuple[int, int]) -> Iterator[str]:
    """What really happens where a card only stores a format, and formats nobody has checked."""
    if engine.dtype == "auto" and compute < BFLOAT16_FROM and shape.dtype != "float16":
        instead = "float16" if computes_in_half(shape) else "32 bits, which is twice the memory"
        yield f"this card has no arithmetic for bfloat16: the engine computes in {instead}"
    method = shape.quantised.method if shape.quantised else ""
    native = NATIVE_FROM.get(_NAMES.get(method, Quantisation.NONE))
    if native is not None and compute < native:
        yield (
            f"this card has no arithmetic for {method}: weights are stored in it (the memory is "
            "saved) and unpacked to 16 bits to compute (Marlin), so they are not faster"
        )
    if method and method not in _ACCEPTED_FROM:
        yield f"whether this card takes weights in {method} is not known here"
    if _keeps_fp8(shape, engine):
        yield from _cache_notes(compute)


def plain_cache(compute: tuple[int, int]) -> str:
    """The format of contexts in 16 bits that a card takes."""
    return "float16" if compute < BFLOAT16_FROM else "bfloat16"


def stores_fp8(compute: tuple[int, int]) -> bool:
    """Whether a context in 8 bits is worth proposing on a card."""
    return compute >= BFLOAT16_FROM


def _keeps_fp8(shape: Shape, engine: Engine) -> bool:
    wanted = engine.cache_dtype if engine.cache_dtype != "auto" else shape.cache_dtype
    return bool(shape.attends) and wanted.startswith("fp8")


def _reads_fp8(shape: Shape, compute: tuple[int, int]) -> bool:
    """Whether some attention kernel reads contexts in FP8: below 8.9 only FlashInfer's does."""
    if compute >= NATIVE_FROM[Quantisation.FP8]:
        return True
    plain = all(
        layer.kind is not Kind.LATENT and layer.width // 2 in _FLASHINFER_WIDTHS
        for layer in shape.attends
    )
    other = shape.architecture.startswith(_NOT_FLASHINFER)
    return compute >= BFLOAT16_FROM and plain and not other


def _cache_notes(compute: tuple[int, int]) -> Iterator[str]:
    if compute < NATIVE_FROM[Quantisation.FP8]:
        yield (
            "this card has no arithmetic in FP8: contexts are stored in it and widened to "
            "compute, which saves memory and costs time; another attention kernel is chosen"
        )
    yield "a context in FP8 can change answers: run the golden questions in Korean with it"


def _told(compute: tuple[int, int]) -> str:
    return f"{compute[0]}.{compute[1]}"

"""How much a word says about what a text is about: 0 for grammar, less than 1 for filler.

Words of weight 0 are neither indexed nor searched. Soft words are, but count less as evidence
than the things the question is about ("use", "want", 방법).
"""

from __future__ import annotations

_SOFT = 0.3


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENGLISH_SILENT = _words("""
a about after all also although am an and any are aren't as at be because been before being both
but by can can't cannot could couldn't did didn't do does doesn't doing don't during each else
ever every for from had has have having he hence her here hers him his how however i if in
instead into is isn't it it's its itself just let like may maybe me might mine more most must my
need no nor not now of off on once one ones only onto or other our ours out over own per please
quite rather really she should shouldn't since so some still such than that that's the their
theirs them then there there's these they this those though through thus till to together too
toward under until up upon us very was wasn't we were weren't what what's whatever when where
where's whether which while who who's whom whose why will with within without won't would
wouldn't yes yet you your yours yourself s t d ll re ve m tell explain describe exactly actually
e.g i.e etc
""")
_ENGLISH_SOFT = _words("""
able again allow allows another anything best bit case contain contains do done else everything
exist exists find first get gets getting give gives given go goes going gone good happen
happened include included includes including happening happens help keep keeps kept know last
long look make makes making many mean means much new next nothing old possible problem provide
provides put same say says see seen set show shows something take takes thing things time try
trying use used useful uses using want wanted wants way ways well work working works
""")
_KOREAN_SILENT = _words("""
가 각 같 거 것 게 경우 고 과 그 그것 그냥 그래 그러 그러나 그런 그런데 그럼 그렇 그리 그리고 까
나 내 너 년 누가 누구 는 다 다시 더 도 두 든 들 등 따라 때 때문 또 또는 라 로 를 마 만 만약 많
많이 말 매우 며 면 몇 몇몇 모두 모든 무슨 무엇 뭐 뭘 및 및은 바 바로 밖 번 보 보다 보통 부터 분
뿐 서 수 쉽 쉽게 시 아 아니 아니라 아닌 아주 안 않 않는 않은 않을 알 알려 알려주 알려줘 앞 야 약
어 어느 어디 어디서 어떠 어떤 어떻 어떻게 언제 얼마 얼마나 없 에 여기 여러 오 와 왜 요 우리
우리의 위 위해 위한 으로 은 을 의 이 것이 것도 것은 것을 수가 때에 때가 때도 이것 이런 이렇
이렇게 이미 이제 인 일 임 자 자기 저 저는 저의 적 전 정도 제 제가 조금 좀 주 주세 중 즉 지 지금
직접 참 채 처럼 최대 크 큰 통해 하 하나 한 할 함께 해 혹시 등등 되 된 될 됩 됐 돼 합 했 무어 뭔
뭔가 가요 나요 인가 대해 대한 관해 관한 대하 관하 위하 따르 통하 설명 궁금 부탁 그때 이때
언제든지 뭐든
""")
_KOREAN_SOFT = _words("""
가능 방법 방식 사용 이용 필요 문제 상황 원하 내용 관련 다음 새 새로 새로운 생기 나오 만들 만드
쓰 쓸 쓰는 찾 보이 볼 본 확인 하려 받 주는 준 다른 같은 그대로 먼저 나중 처음 마지막 계속 하게
되게 좋 바꾸
""")
# Existence and politeness are grammar in every inflection.
_KOREAN_SILENT_STARTS = tuple(
    _words("""
있 없 않 싶 계시 주세 해주 알려 가르쳐 말해 뭐 뭘 뭔 무엇 무슨 어떻 어떤 어디 언제 얼마 누구
""")
)


def english_weight(word: str) -> float:
    """Weight of a lower-case English word before stemming."""
    if word in _ENGLISH_SILENT:
        return 0.0
    return _SOFT if word in _ENGLISH_SOFT else 1.0


def korean_weight(stem: str) -> float:
    """Weight of a Korean word after stripping (`rag_app.text.korean.stem`)."""
    if stem in _KOREAN_SILENT or stem.startswith(_KOREAN_SILENT_STARTS):
        return 0.0
    return _SOFT if stem in _KOREAN_SOFT else 1.0

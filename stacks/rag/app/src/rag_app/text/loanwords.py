"""English words of computing as they are written in Korean, for questions in the other script.

A question about 도커 should find "Docker" and the other way round. Only transliterations stand
here, which mean the same in both scripts; translations are the business of the dense lane.
"""

from __future__ import annotations

_TABLE = """
도커 docker 컨테이너 container 쿠버네티스 kubernetes 리눅스 linux 윈도우 windows 파이썬 python
프로메테우스 prometheus 서버 server 클라이언트 client 브라우저 browser
터미널 terminal 스크립트 script 서비스 service 프로세스 process 시스템 system 커널 kernel
드라이버 driver 메모리 memory 디스크 disk 네트워크 network 포트 port 소켓 socket
토큰 token 패스워드 password 로그인 login 로그 log 에러 error 백업 backup 롤백 rollback
업그레이드 upgrade 업데이트 update 인스톨 install 다운로드 download 업로드 upload 릴리스 release
릴리즈 release 버전 version 패키지 package 프로필 profile 프롬프트 prompt 엔진 engine 모델 model
인덱스 index 벡터 vector 임베딩 embedding 데이터 data 데이터베이스 database 파일 file
폴더 folder 디렉터리 directory 디렉토리 directory 링크 link 게이트 gate 블롭 blob
다이제스트 digest 텔레메트리 telemetry 라이선스 license 워드 word 엑셀 excel 마크다운 markdown
스캔 scan 메뉴 menu 이메일 email 메일 mail 프린터 printer 옵션 option 튜닝 tuning
"""
_PAIRS = _TABLE.split()
_ENGLISH = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
_KOREAN = {english: korean for korean, english in reversed(_ENGLISH.items())}


def to_english(stem: str) -> tuple[str, ...]:
    """English spellings of a Korean stem."""
    return (_ENGLISH[stem],) if stem in _ENGLISH else ()


def to_korean(word: str) -> tuple[str, ...]:
    """Korean spellings of a lower-case English word; of a plural as of its singular."""
    korean = _KOREAN.get(word) or _KOREAN.get(word.removesuffix("s"))
    return (korean,) if korean else ()

"""Why a document cannot be read, and what its owner can do: one sentence for each reference.

References are stable; people and scripts may look for them. A failed document's reason reads
`reference: sentence`.
"""

from __future__ import annotations

from rag_app.errors import DocumentRefused

SENTENCES = {
    "empty-file": "The file is empty. Check the original and upload it again.",
    "too-large": "The file has {size}, the limit is {limit}. Split it into smaller files.",
    "too-long": "The document holds more than {limit:,} characters of text. Split it.",
    "too-many-pages": "The document has {pages:,} pages, the limit is {limit:,}. Split it.",
    "no-text": "The file holds no text that could be searched. Check the original.",
    "unknown-format": "This kind of file ({kind}) cannot be read."
    " Save it as PDF, DOCX, HTML, Markdown or text and upload that.",
    "unknown-encoding": "The text is neither UTF-8, UTF-16, CP949 nor EUC-KR."
    " Save it as UTF-8 and upload it again.",
    "encrypted-pdf": "The PDF is protected by a password. Save a copy without it and upload that.",
    "damaged-pdf": "The PDF is damaged. Open it, save it again and upload the new copy.",
    "no-text-layer": "The PDF has no text layer (a scan, probably), and OCR is not part of this"
    " release. Upload a copy with a text layer.",
    "encrypted-office": "The Office file is protected by a password."
    " Save a copy without it and upload that.",
    "broken-docx": "The DOCX is damaged. Open it, save it again and upload the new copy.",
    "zip-bomb": "The file unpacks to far more than it may ({detail}); it was not unpacked."
    " If it is genuine, save it again without embedded content.",
    "unsafe-xml": "The document declares a document type or entities, which harmful files use."
    " Open it, save it again and upload the new copy.",
    "file-missing": "The original file is no longer there. Upload it again.",
    "parser-crashed": "Reading this document crashed the parser."
    " Save it again, or in another format, and upload the new copy.",
    "out-of-time": "Reading this document took longer than {limit} seconds."
    " Split it, or save it in a simpler format.",
    "out-of-memory": "Reading this document needs more memory than the {limit} it may use."
    " Split it, or save it in a simpler format.",
}


def refused(reference: str, **values: object) -> DocumentRefused:
    """The error for `reference`; `values` fill the places of its sentence."""
    return DocumentRefused(reference, SENTENCES[reference].format(**values))


def megabytes(size: int) -> str:
    """A size in bytes for people, as `1.5 MiB`."""
    return f"{size / (1024 * 1024):.1f} MiB"

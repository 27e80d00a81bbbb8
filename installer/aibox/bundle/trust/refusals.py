"""Every way to say no to signed bytes: a reference, whose fault it is, and the way out."""

from __future__ import annotations

from aibox.errors import Fault, VerificationRefused

_VERIFY = "./aibox bundle verify BUNDLE"
_DAMAGED = f"it is damaged or forged; ask its maker for it again, then: {_VERIFY}"
_APPLY = "./aibox trust apply FILE"
_ADD = "./aibox trust add ROOT"
_BUILD = "./aibox bundle build"
_LIST = "./aibox trust list"
_MATERIAL = f"give a file like 2.root.json or revoked.json, as its maker sent it, to: {_APPLY}"

WAYS_OUT: dict[str, tuple[Fault, str]] = {
    "bundle-too-large": (Fault.UPSTREAM, _DAMAGED),
    "bundle-malformed": (Fault.UPSTREAM, _DAMAGED),
    "bundle-too-new": (
        Fault.YOU,
        "use the command line that it brings, in the folder of the bundle: sh ./aibox install",
    ),
    "bundle-unsigned": (
        Fault.UPSTREAM,
        f"its maker signs it with: {_BUILD} --profile NAME --output DIR --sign DIR; to use it all "
        "the same, which is recorded, give --allow-unsigned to: ./aibox install",
    ),
    "bundle-key-twice": (Fault.UPSTREAM, _DAMAGED),
    "bundle-key-unknown": (
        Fault.UPSTREAM,
        "its maker may have changed keys: a bundle brings the root that names them; see what this "
        f"box trusts with: {_LIST}",
    ),
    "bundle-signature-wrong": (Fault.UPSTREAM, _DAMAGED),
    "bundle-too-few-keys": (
        Fault.UPSTREAM,
        f"its maker signs it with enough keys in the folder given to: {_BUILD} --sign DIR",
    ),
    "bundle-key-revoked": (
        Fault.UPSTREAM,
        "ask its maker for one that is signed with a key that still holds; see what was revoked "
        f"with: {_LIST}",
    ),
    "bundle-expired": (
        Fault.UPSTREAM,
        "ask its maker for a newer one, or set the clock of this host right; to use it all the "
        "same, which is recorded, give --allow-expired to: ./aibox install",
    ),
    "bundle-older": (
        Fault.YOU,
        "to return to a generation that is installed: ./aibox rollback; to bring an older state "
        "in all the same, which is recorded, give --allow-downgrade to: ./aibox install",
    ),
    "bundle-below-minimum": (
        Fault.YOU,
        "ask its maker for a newer one; to bring this one in all the same, which is recorded, give "
        "--allow-downgrade to: ./aibox install",
    ),
    "bundle-equivocation": (
        Fault.UPSTREAM,
        "somebody signed two states as one: keep both bundles, tell their maker, who raises the "
        "sequence with ./aibox lock --next, and your security officer; look at them with: "
        f"{_VERIFY}",
    ),
    "bundle-revoked": (
        Fault.UPSTREAM,
        f"its maker withdrew it: ask for the one that replaces it, then: {_VERIFY}",
    ),
    "ssh-signature-missing": (Fault.UPSTREAM, _DAMAGED),
    "ssh-signature-malformed": (Fault.UPSTREAM, _DAMAGED),
    "ssh-signature-wrong": (Fault.UPSTREAM, _DAMAGED),
    "ssh-signature-for-another-purpose": (Fault.UPSTREAM, _DAMAGED),
    "root-too-large": (Fault.UPSTREAM, _DAMAGED),
    "root-malformed": (Fault.UPSTREAM, _DAMAGED),
    "root-unsigned": (Fault.UPSTREAM, _DAMAGED),
    "root-key-twice": (Fault.UPSTREAM, _DAMAGED),
    "root-key-unknown": (Fault.UPSTREAM, _DAMAGED),
    "root-signature-wrong": (Fault.UPSTREAM, _DAMAGED),
    "root-too-few-keys": (
        Fault.UPSTREAM,
        "the holders of the root keys sign a new root together, by the old and by the new rule: "
        "./aibox trust rotate DIR",
    ),
    "root-chain-gap": (
        Fault.UPSTREAM,
        f"bring the roots one after the other, or the bundle as it was made: {_APPLY}",
    ),
    "root-chain-too-long": (Fault.UPSTREAM, _DAMAGED),
    "root-not-first": (
        Fault.YOU,
        f"give the file 1.root.json that came with the delivery note to: {_ADD}",
    ),
    "root-not-trusted": (
        Fault.YOU,
        "compare the fingerprint with the delivery note; if it is the same, trust its file "
        f"root/1.root.json with: {_ADD}",
    ),
    "root-equivocation": (
        Fault.UPSTREAM,
        "somebody signed two roots as one: use neither, tell their maker and your security "
        f"officer; see what this box trusts with: {_LIST}",
    ),
    "root-older": (
        Fault.UPSTREAM,
        "this box knows a newer root than the bundle brings; ask its maker to sign it again: "
        f"{_BUILD} --sign DIR",
    ),
    "root-expired": (
        Fault.UPSTREAM,
        f"ask its maker for the new root and bring it in with: {_APPLY}",
    ),
    "revocations-too-large": (Fault.UPSTREAM, _DAMAGED),
    "revocations-malformed": (Fault.UPSTREAM, _DAMAGED),
    "revocations-unsigned": (Fault.UPSTREAM, _DAMAGED),
    "revocations-key-twice": (Fault.UPSTREAM, _DAMAGED),
    "revocations-key-unknown": (
        Fault.UPSTREAM,
        f"if its maker has changed root keys, bring the newer root in first: {_APPLY}",
    ),
    "revocations-signature-wrong": (Fault.UPSTREAM, _DAMAGED),
    "revocations-too-few-keys": (
        Fault.UPSTREAM,
        "the holders of the root keys sign the list together: ./aibox trust revoke DIR",
    ),
    "revocations-older": (
        Fault.UPSTREAM,
        f"this box knows a newer list; ask its maker for the newest, then: {_APPLY}",
    ),
    "revocations-equivocation": (
        Fault.UPSTREAM,
        "somebody signed two lists as one: tell their maker and your security officer; see what "
        f"this box trusts with: {_LIST}",
    ),
    "trust-file-too-large": (Fault.YOU, _MATERIAL),
    "trust-file-malformed": (Fault.YOU, _MATERIAL),
    "trust-file-key-twice": (Fault.YOU, _MATERIAL),
    "trust-file-of-another-kind": (Fault.YOU, _MATERIAL),
    "have-too-large": (Fault.YOU, "ask the box again for what it holds: ./aibox have"),
    "have-malformed": (Fault.YOU, "ask the box again for what it holds: ./aibox have"),
    "have-signature-wrong": (Fault.YOU, "ask the box again for what it holds: ./aibox have"),
}
"""Reference -> whose fault it is, and a hint that ends with the command to type."""


def refused(reference: str, message: str, context: str = "") -> VerificationRefused:
    """The refusal under one of the references of `WAYS_OUT`."""
    fault, hint = WAYS_OUT[reference]
    return VerificationRefused(reference, message, context=context, hint=hint, fault=fault)

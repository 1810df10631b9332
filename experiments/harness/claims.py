"""Verdicts on what the labs published, each by the rule that stands where it is made."""

from jaxresnet.report.document import Claim

OTHER_PROTOCOL = "this run does not follow the published protocol"


def claim(published: str, here: str, agrees: bool | None, why: str = "") -> Claim:
    """agrees: None where it cannot be said. why: kept unless the two agree."""
    verdict = "cannot say" if agrees is None else "yes" if agrees else "no"
    return Claim(published, here, verdict, "" if agrees else why)

"""What Cambrian-1 does with replies in every task: it reads what follows the last "answer is", and allows numbers 5 %.

Facts from its public scripts (github.com/cambrian-mllm/cambrian, eval/eval, commit 539ffc3).
"""

from __future__ import annotations

_PHRASES = ("answer is", "answer is:", "answer:")
_TOLERANCE = 0.05


def final_answer(reply: str) -> str:
    """The reply in lower case from its last "answer is" or "answer:" on; of "answer is: B" the colon stays before b."""
    text = reply.lower().strip()
    for phrase in _PHRASES:
        text = text.rpartition(phrase)[2]
    return text.strip()


def numbers_agree(first: str, second: str, *, of: str) -> bool:
    """Whether two texts are numbers for Python's ``float`` and differ by at most 5 % of the number ``of``."""
    try:
        return abs(float(first) - float(second)) <= _TOLERANCE * abs(float(of))
    except ValueError:
        return False

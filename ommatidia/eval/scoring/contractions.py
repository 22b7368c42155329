"""Contractions without their apostrophe, as the VQA metric knows them; a table of facts, its slips included."""

from __future__ import annotations

_REGULAR = """ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll
how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've
shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's
they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've
who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've"""

_DOUBLE = """couldn't've hadn't've mightn't've shouldn't've wouldn't've he'd've it'd've someone'd've something'd've
there'd've they'd've we'd've who'd've you'd've she'd've"""

_IRREGULAR = {
    "'ow's'at": ("ow's'at", "'ows'at", "'ow'sat"),
    "somebodyd": ("somebody'd",),  # the table maps it the wrong way round, and so do all implementations
    "somebody'd've": ("somebodyd've", "somebody'dve"),
    "y'all'll": ("yall'll", "y'allll"),
    "y'all'd've": ("yall'd've", "y'alld've", "y'all'dve"),
}


def _without(text: str, place: int) -> str:
    """``text`` without its apostrophe number ``place``."""
    parts = text.split("'")
    return "'".join([*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :]])


CONTRACTIONS: dict[str, str] = (
    {full.replace("'", ""): full for full in _REGULAR.split()}
    | {_without(full, place): full for full in _DOUBLE.split() for place in (0, 1)}
    | {short: full for full, shorts in _IRREGULAR.items() for short in shorts}
)
"""What a word without its apostrophe stands for."""

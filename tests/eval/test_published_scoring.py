"""The published metrics on answers whose worth the reference implementations agree on, and on their documented traps.

The expected values were read off lmms-eval 0.7.3 and pycocoevalcap 1.2, run on the same strings.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.eval.scoring import (
    choice_letter,
    cider,
    cider_each,
    gqa_match,
    mathvista_extract,
    mathvista_match,
    mmmu_match,
    mmmu_parse,
    normalize_vqa,
    ocrbench_match,
    vqa_accuracy,
    yes_no,
)
from ommatidia.eval.scoring.tokens import ptb_like


@pytest.mark.parametrize(
    ("text", "vqav2", "textvqa"),
    [
        ("The Cat's", "cat's", "cat 's"),
        ("3.", "3", "3"), (".5", ".5", ".5"), ("3.5", "3.5", "3.5"), ("a.b", "ab", "ab"),
        ("1,000", "1000", "1000"), ("1,000 (km)", "1000 km", "1000 km"), ("red,blue", "red blue", "redblue"),
        ("red, blue", "red blue", "red blue"), ("t-shirt", "t shirt", "t shirt"), ("t - shirt", "t shirt", "t shirt"),
        ("two dogs", "2 dogs", "2 dogs"), ("None", "0", "0"), ("dont", "don't", "don't"),
        ("couldn'tve", "couldn't've", "couldn't've"), ("somebody'd", "somebodyd", "somebodyd"),
        ("let's", "let's", "let 's"), ("Im", "im", "im"), ("", "", ""), ("the", "", ""), ("a/b", "b", "b"),
        ("10:30", "10:30", "10:30"), ("$5 & 50%", "$5 & 50%", "$5 & 50%"), ("yes!\n", "yes", "yes"),
        ("what?", "what", "what"),
    ],
)  # fmt: skip
def test_normalize_vqa(text, vqav2, textvqa):
    assert normalize_vqa(text, variant="vqav2") == vqav2
    assert normalize_vqa(text, variant="textvqa") == textvqa


def test_vqa_accuracy_is_the_soft_vote_of_the_others():
    for agree, value in enumerate([0.0, 0.3, 0.6, 0.9, 1.0, 1.0]):
        people = ["two"] * agree + [f"other {n}" for n in range(10 - agree)]
        assert vqa_accuracy("2", people) == pytest.approx(value)
    assert vqa_accuracy("red", ["red"]) == 0.0  # nobody else has said it
    assert vqa_accuracy("cat's", ["cat 's"] * 10) == 0.0
    assert vqa_accuracy("cat's", ["cat 's"] * 10, variant="textvqa") == 1.0
    with pytest.raises(DataError, match="reference"):
        vqa_accuracy("red", [])
    with pytest.raises(ConfigError, match="variant"):
        normalize_vqa("x", variant="vqa")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "target", "lmms_eval", "vlmevalkit", "cambrian"),
    [
        ("Yes", "yes", True, True, True),
        ("yes.", "yes", True, False, True),
        ("t-shirt", "tshirt", True, False, False),
        ("the cat", "cat", False, False, False),
        ("a  b", "a b", False, False, False),
        (" yes", "yes", False, True, False),
    ],
)
def test_gqa(answer, target, lmms_eval, vlmevalkit, cambrian):
    assert gqa_match(answer, target) is lmms_eval
    assert gqa_match(answer, target, variant="vlmevalkit") is vlmevalkit
    assert gqa_match(answer, target, variant="cambrian") is cambrian


def test_ocrbench():
    assert ocrbench_match("It reads\nSTOP here", ["stop"], dataset="IIIT5K")
    assert ocrbench_match("It reads\nstop here", "reads stop", dataset="IIIT5K")
    assert not ocrbench_match("It reads Stop", "S top", dataset="IIIT5K")
    assert ocrbench_match("x = \\frac { 1 }\n{ 2 }", "\\frac{1}{2}", dataset="HME100k")
    assert not ocrbench_match("X=1", "x=1", dataset="HME100k")  # case counts in formulas
    assert ocrbench_match("\uff13\uff14", "34", dataset="SVT", variant="folded")
    assert not ocrbench_match("\uff13\uff14", "34", dataset="SVT")
    assert not ocrbench_match("anything", ["", " "], dataset="SVT")


@pytest.mark.parametrize(
    ("answer", "official", "cambrian"),
    [
        ("Yes", "yes", "yes"), ("no", "no", "no"), ("There is not a dog", "no", None), ("Maybe", "yes", None),
        ("", "yes", None), ("Yes. No", "yes", "yes"), ("No, sir", "no", "no"), ("NO", "yes", "no"),
        ("yes, it is", "yes", "yes"),
    ],
)  # fmt: skip
def test_yes_no_of_pope(answer, official, cambrian):
    assert yes_no(answer, variant="official") == official
    assert yes_no(answer, variant="cambrian") == cambrian


@pytest.mark.parametrize(
    ("answer", "cambrian_mme", "somewhere"),
    [("Yes..", "yes", "yes"), ("no", "no", "no"), ("No, sir", None, "no"), ("eyes", None, "yes"), ("", None, "no")],
)
def test_yes_no_of_other_toolkits(answer, cambrian_mme, somewhere):
    assert yes_no(answer, variant="cambrian_mme") == cambrian_mme
    assert yes_no(answer, variant="somewhere") == somewhere


OPTIONS = ("a red cat", "a dog", "two dogs", "nothing")


@pytest.mark.parametrize(
    ("answer", "read"),
    [  # read: lmms_eval, mmbench, cambrian, first, ai2d, scienceqa, mmvp, cv_bench, mmbench_static
        ("B", "BBBBBBBBB"), ("(B)", "BBB.B.BBB"), ("B.", "BBBBBBBBB"), ("b", "..BBBBBB."), ("B) a dog", "BBBB..BBB"),
        ("The answer is A", "A.A...A.A"), ("A dog.", "AAAA..AAA"), ("two dogs", ".C......C"), ("C or D", "C.CC...CC"),
        ("B because it barks", "BBBB..BBB"), ("Answer: D", "DDDA..AAD"), ("", "........."),
        ("**B**", "B...B...B"), (r"\boxed{C}", "C.......C"), ("正解は D", "DD......D"), ("答案是C。", "C.......C"),
    ],
)  # fmt: skip
def test_letters_of_the_toolkits(answer, read):
    variants = ("lmms_eval", "mmbench", "cambrian", "first", "ai2d", "scienceqa", "mmvp", "cv_bench", "mmbench_static")
    found = "".join(choice_letter(answer, OPTIONS, variant=variant) or "." for variant in variants)
    assert found == read


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'cambrian'"):
        choice_letter("B", OPTIONS, variant="cambrain")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "official", "lmms_eval"),
    [
        ("B", "B", "B"), ("(C) because of A", "C", "C"), ("A or (B) or (D)", "D", "D"), ("I say A , not B .", "B", "B"),
        ("B. a dog", "", "B"), ("the letter is B.", "B", "B"), ("it seems to be two dogs there", "C", "C"),
        ("two dogs", "", ""), ("", "", ""), ("b", "", ""),
    ],
)  # fmt: skip
def test_mmmu_letters(answer, official, lmms_eval):
    assert mmmu_parse(answer, OPTIONS) == official
    assert mmmu_parse(answer, OPTIONS, variant="lmms_eval") == lmms_eval


def test_mmmu_open_answers():
    assert mmmu_parse("The answer is 1,234.567.", None) == [1234.57, 1234.0, 234.57]
    assert mmmu_parse("x = 5", None) == [5.0]
    assert mmmu_parse("So it is red\nthe result is 3 cm", None) == ["red", "3 cm", 3.0]
    assert mmmu_parse("Blue", None) == ["blue"]
    assert mmmu_parse("b", None) == [" b", "b "]
    assert mmmu_match(mmmu_parse("The total is 1,234,567", None), "1234567")
    assert mmmu_match(mmmu_parse("So it is light red", None), ["crimson", "red"])
    assert not mmmu_match(mmmu_parse("abc", None), "b")  # no trivial match of one character
    assert mmmu_match("B", "B")
    assert not mmmu_match("", "B")


def test_mathvista_by_rules():
    assert mathvista_extract("(B) x", answer_type="text", choices=["w", "x"]) == "x"
    assert mathvista_extract('The answer is "7".', answer_type="integer") == "7"
    assert mathvista_extract("There are 3 cats and 1,200 dogs", answer_type="integer") == "1200"
    assert mathvista_extract("maybe [1] or [1, 2]", answer_type="list") == "[1, 2]"
    assert mathvista_extract("none that I see", answer_type="integer") == ""
    assert mathvista_extract("none", answer_type="text", choices=["w", "x"]) == ""
    assert mathvista_match("3.14159", "3.14", answer_type="float", precision=2)
    assert mathvista_match("3.9", "3", answer_type="integer")
    assert mathvista_match("A", "w", answer_type="text", choices=["w", "x"])
    assert mathvista_match("red dog", "red cat", answer_type="text", choices=["red cat", "blue"])
    assert not mathvista_match("inf", "3", answer_type="integer")
    assert not mathvista_match("", "", answer_type="text")


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A close-up of the dog's tail, which isn't long!", "a close-up of the dog 's tail which is n't long"),
        ("Two people can't cross at 10:30 a.m. in the U.S.", "two people ca n't cross at 10:30 a.m. in the u.s."),
        (
            'A "STOP" sign (in red) near Mr. Smith\u2019s house.',
            "a stop sign -lrb- in red -rrb- near mr. smith 's house",
        ),
        ("3.5 pizzas; 1,000 people...", "3.5 pizzas 1,000 people"),
        ("cannot gonna $5 50% 5th ave.", "can not gon na $ 5 50 % 5th ave."),
        ("Dogs and cats' beds -- now!!", "dogs and cats beds now !!"),
        ("A dog – 2–3 years old — waits… yes", "a dog 2 3 years old waits yes"),
    ],
)
def test_caption_tokens_are_those_of_the_ptb_tokenizer(caption, tokens):
    assert " ".join(ptb_like(caption)) == tokens


def test_caption_tokens_of_rare_words():
    """Captions full of abbreviations, numbers, addresses, contractions and quotes; the tokens are PTBTokenizer's."""
    path = Path(__file__).parent / "ptb_tokens.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 200
    assert [row for row in rows if ptb_like(row["caption"]) != row["tokens"]] == []


REFERENCES = [
    ["a man rides a wave", "a surfer on a big wave"],
    ["two dogs run in the snow"],
    ["a red bus on the street", "a bus in the city", "the red bus"],
]


CIDER_EACH = [2.5921740084913196, 10.0, 3.0067357540299904]


def test_cider_equals_pycocoevalcap():
    captions = ["a man on a wave", "two dogs run in the snow", "a red bus"]
    assert cider_each(captions, REFERENCES, tokens="spaces") == pytest.approx(CIDER_EACH, abs=1e-12)
    assert cider(captions, REFERENCES, tokens="spaces") == pytest.approx(sum(CIDER_EACH) / 3, abs=1e-12)
    assert cider(dict(enumerate(captions)), dict(enumerate(REFERENCES)), tokens="spaces") == cider(
        captions, REFERENCES, tokens="spaces"
    )
    assert cider(["Two dogs run."], [["two dogs run"]]) == 0.0  # one picture knows no rare words
    with pytest.raises(DataError, match="2 captions and references of 3"):
        cider(captions[:2], REFERENCES)
    with pytest.raises(DataError, match="same pictures"):
        cider({"a": "x"}, {"b": ["x"]})

"""Makes data/plain_talk.jsonl: what SmolLM2-135M-Instruct itself answers to everyday questions, greedily.

    python tools/make_plain_talk.py

Mixed into a training stage, a language model's own answers are text to rehearse: they keep it where it was while it
learns to see. The questions are templates filled with common words, none of them of a family that ``PlainQuestions``
asks from (capitals, planets, opposites, how many ...), so that that set measures text ability and not memory. A long
answer ends with its last whole sentence within MOST tokens; one dialogue in three has a second turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ommatidia.core.types import Message, Sample
from ommatidia.models.build import build_model
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor
from ommatidia.recipes.quickstart import smollm2_untrained

OUT = Path(__file__).parents[1] / "ommatidia" / "data" / "plain_talk.jsonl"
MOST = 48
"""Tokens of an answer."""

TOOLS = "a hammer,a ladder,an umbrella,a thermometer,a compass,a pillow,a bridge,a library,a calendar,a microscope"
PLACES = "a desert,a rainforest,a hospital,a harbour,a bakery,a museum,a farm,a school,an airport,a theatre"
BEASTS = "elephants,penguins,owls,dolphins,camels,frogs,horses,butterflies,snakes,squirrels"
TASKS = "boil an egg,plant a tree,wash a sweater,tie a shoe,clean a window,make tea,fry rice,save money,learn a song"
SKILLS = (
    "swim,cook,draw,write well,speak in public,play chess,sleep better,study for an exam,train a puppy,grow tomatoes"
)
JOBS = "a teacher,a nurse,a plumber,a judge,a farmer,a pilot,a chef,a journalist,an architect,a firefighter"
IDEAS = "gravity,friendship,electricity,democracy,evolution,music,inflation,a volcano,a rainbow,memory"
SETS = "fruits,vegetables,sports,musical instruments,birds,trees,tools,kinds of weather,pieces of furniture,hobbies"
SCENES = "a rainy street,a busy market,a quiet lake,an old clock,a train journey,a kind neighbour,winter,a garden"
WORDS = "brave,ancient,gentle,curious,fragile,enormous,honest,rapid,silent,weary"
PAIRS = "tea and coffee,a lake and a river,a moth and a butterfly,a novel and a poem,a bicycle and a motorcycle"
SENTENCES = "She go to school every day.,He have two brother.,They was late again.,I seen that film.,We is happy."
FEELINGS = "sad,bored,nervous,tired,lonely,excited,angry,proud"

TEMPLATES: dict[str, str] = {
    "What is {} used for?": TOOLS,
    "Describe {} in one sentence.": f"{TOOLS},{PLACES}",
    "What can you find in {}?": PLACES,
    "Why do people go to {}?": PLACES,
    "Where do {} live?": BEASTS,
    "What do {} eat?": BEASTS,
    "Tell me a fact about {}.": BEASTS,
    "How do I {}?": TASKS,
    "Give me one tip to {}.": f"{TASKS},{SKILLS}",
    "How can I learn to {}?": SKILLS,
    "What does {} do?": JOBS,
    "Would you like to be {}?": JOBS,
    "Why is the work of {} important?": JOBS,
    "Explain {} in one sentence.": IDEAS,
    "What is {}?": IDEAS,
    "Explain {} to a child.": IDEAS,
    "Name three {}.": SETS,
    "Give me an example of {}.": SETS,
    "Write one sentence about {}.": SCENES,
    "Write a short title for a story about {}.": SCENES,
    'What does the word "{}" mean?': WORDS,
    'Use the word "{}" in a sentence.': WORDS,
    'Give me a word that means the same as "{}".': WORDS,
    "What is the difference between {}?": PAIRS,
    "Which do you prefer, {}?": PAIRS,
    "Correct this sentence: {}": SENTENCES,
    "I feel {} today.": FEELINGS,
    "What should I do when I am {}?": FEELINGS,
}
ALONE = (
    "Hello!",
    "Hi, how are you?",
    "Good morning.",
    "Who are you?",
    "What is your name?",
    "What can you help me with?",
    "Thank you very much.",
    "Goodbye!",
    "Tell me a joke.",
    "Tell me something interesting.",
    "Can you see images?",
    "What should I cook tonight?",
    "Is it going to rain?",
    "Why do leaves fall in autumn?",
    "Why do we sleep?",
    "Why do we dream?",
    "Why does ice float?",
    "Why is the sea salty?",
    "Why do cats purr?",
    "Why should I brush my teeth?",
    "Is a tomato a fruit or a vegetable?",
    "Can fish drown?",
    "Do plants sleep?",
    "Who was Marie Curie?",
    "Who was Mahatma Gandhi?",
    "Who was Mozart?",
    "What is the currency of India?",
    "What is steel made of?",
    "What is paper made of?",
    "What is cheese made from?",
)
FOLLOW_UPS = ("Why?", "Tell me more.", "Can you say that in fewer words?", "Give me an example.", "Thank you!")


def questions() -> Iterator[str]:
    """Every question once, in an order that changes the subject each time."""
    filled = [[form.format(word) for word in words.split(",")] for form, words in TEMPLATES.items()]
    longest = max(map(len, filled))
    rounds = chain.from_iterable([group[place] for group in filled if place < len(group)] for place in range(longest))
    return iter(dict.fromkeys(chain(ALONE, rounds)))


def main() -> None:
    config = smollm2_untrained().model
    model, processor = build_model(config, seed=0), Processor(config)
    talks = [[Message("user", (question,))] for question in questions()]
    done = answered(talks, model, processor)
    longer = []
    for number, talk in enumerate(done[::3]):
        longer.append([*talk, Message("user", (FOLLOW_UPS[number % len(FOLLOW_UPS)],))])
    followed = {talk[0].text: talk for talk in answered(longer, model, processor)}
    with OUT.open("w", encoding="utf-8") as file:
        for number, talk in enumerate(done):
            turns = [
                {"from": {"user": "human", "assistant": "gpt"}[message.role], "value": message.text}
                for message in followed.get(talk[0].text, talk)
            ]
            file.write(json.dumps({"id": f"talk-{number}", "conversations": turns}, ensure_ascii=False) + "\n")


def answered(talks: list[list[Message]], model: MLLM, processor: Processor) -> list[list[Message]]:
    """The dialogues with the model's answer, but for those in which not one sentence is whole."""
    samples = [Sample(str(number), tuple(talk)) for number, talk in enumerate(talks)]
    replies = generate(model, processor, samples, Decoding(max_new_tokens=MOST), batch=32)
    wholes = [whole(reply, processor) for reply in replies]
    return [[*talk, Message("assistant", (text,))] for talk, text in zip(talks, wholes, strict=True) if text]


def whole(reply: str, processor: Processor) -> str:
    """The reply itself where the model ended it, else its whole sentences; a list's dangling number is no sentence."""
    if len(processor.tokenizer.encode(reply, special=False)) < MOST - 1:
        return reply
    found = re.match(r".*[a-z)\"][.!?]\"?(?=\s|$)", reply, re.DOTALL)
    return found.group() if found else ""


if __name__ == "__main__":
    main()

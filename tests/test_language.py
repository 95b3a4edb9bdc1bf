"""Language: names, numbers in words, real sentences; what reads and what writes them."""

import csv
import gzip
import io
import math
import tarfile

import pytest
import torch
from num2words import num2words

from mtlkit.cases import find_case
from mtlkit.data import DataError
from mtlkit.data.fields.names import GENDERS, LANGUAGES, ambiguous, known_names, names_of, plain
from mtlkit.data.fields.snippets import DOMAINS, FILES, Snippets, read_snippets, words_of
from mtlkit.data.fields.words import LENGTH, Words, numbers_of, read, spell
from mtlkit.losses import token_loss
from mtlkit.model import Decoder, GRUEncoder
from mtlkit.tasks import BalancedAccuracy, WrittenRight, writing
from mtlkit.training import train
from mtlkit.weighting import METHODS

# names and numbers


def test_no_name_is_in_two_languages_and_each_is_there_once():
    names = [name for of_language in known_names().values() for name, _ in of_language]
    assert len(names) == len(set(names)) > 8000 and set(known_names()) == set(LANGUAGES)
    twice, everything = ambiguous()
    assert len(names) == everything - twice and twice > 1000
    assert all(name == plain(name) and len(name) < LENGTH for name in names)


def test_spelling_does_not_give_a_language_away():
    assert plain(" Jürgen ") == "jurgen" and plain("Þórður") == "thordur" and plain("I\u0131l\u2019a") == "iil'a"
    assert plain("Søren") == "soren" and plain("Łukasz-Æ") == "lukasz-ae"


def test_splits_share_nothing_and_stay_the_same():
    parts = [{name for of in names_of(split).values() for name, _ in of} for split in ("train", "val", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert sum(map(len, parts)) == sum(map(len, known_names().values()))
    assert 0.68 < len(parts[0]) / sum(map(len, parts)) < 0.72
    numbers = [{english for english, _ in numbers_of(split)} for split in ("train", "val", "test")]
    assert [len(n) for n in numbers] == [700, 100, 200] and len(set.union(*numbers)) == 1000
    with pytest.raises(ValueError, match="unknown split 'dev': expected one of train, val, test"):
        Words("dev")


def test_numbers_are_what_the_package_says():
    pairs = dict(numbers_of("train"))
    for n in range(0, 1000, 7):
        if plain(num2words(n)) in pairs:
            assert pairs[plain(num2words(n))] == plain(num2words(n, lang="de"))
    assert max(len(word) for pair in pairs.items() for word in pair) < LENGTH


def test_a_word_is_read_as_it_was_spelled_and_what_is_missing_is_marked():
    words = Words("val")
    for k in range(0, len(words), 50):
        sample = words[k]
        assert read(sample["letters"]).replace("-", " ") == words.words[k].replace("-", " ")
        number = int(sample["language"]) < 0
        assert number == bool((sample["german"] >= 0).any()) and (sample["gender"] < 0 or not number)
    ends = words.labels["german"][words.labels["language"] < 0]
    assert ((ends == 0).sum(1) == 1).all()  # one end each
    assert (
        torch.equal(spell("Ål"), words.letters.new_tensor([*spell("al").tolist()]))
        and read(spell("x" * 50)) == "x" * 31
    )
    with pytest.raises(IndexError, match="sample 9999 of"):
        words[9999]


def test_some_names_of_a_language_only():
    few = Words("train", dict.fromkeys(LANGUAGES, 0) | {"Italian": 20}, numbers=False)
    assert len(few) == 20 and set(few.labels["language"].tolist()) == {list(LANGUAGES).index("Italian")}
    other = Words("train", dict.fromkeys(LANGUAGES, 0) | {"Italian": 20}, numbers=False, seed=1)
    assert set(few.words) != set(other.words)


# encoder and decoder


def test_the_encoder_leaves_out_what_fills_up():
    torch.manual_seed(0)
    encoder = GRUEncoder(29, 8, 8).eval()
    short = torch.tensor([[3, 4, 5, 0, 0]])
    features = encoder(short)
    assert (features["states"][0, 3:] == 0).all()
    assert torch.allclose(features["mean"], features["states"][:, :3].mean(1), atol=1e-6)
    assert encoder(torch.zeros(1, 5, dtype=torch.int64))["mean"].isfinite().all()


def test_the_decoder_never_looks_at_the_answer_when_it_is_scored():
    torch.manual_seed(0)
    encoder, decoder = GRUEncoder(29, 8, 8), Decoder(16, 29, LENGTH, width=16)
    letters = torch.stack([spell("twenty-one"), spell("three")])
    answers = torch.randint(0, 29, (2, 2, LENGTH))
    decoder.eval()
    one, other = (decoder(encoder(letters, given)) for given in answers)
    assert torch.equal(one, other) and one.shape == (2, LENGTH, 29)
    assert torch.equal(decoder(encoder(letters)), one)
    decoder.train()
    one, other = (decoder(encoder(letters, given)) for given in answers)
    assert torch.equal(one[:, 0], other[:, 0]) and not torch.equal(one[:, 5], other[:, 5])
    changed = answers[0].clone()
    changed[:, 10:] = 1
    assert torch.allclose(decoder(encoder(letters, changed))[:, :11], one[:, :11], atol=1e-6)  # nor at what comes later


def test_what_it_looks_at_sums_to_one_and_is_never_the_filling():
    torch.manual_seed(0)
    encoder, decoder = GRUEncoder(29, 8, 8), Decoder(16, 29, LENGTH, width=16)
    letters = spell("six")[None]
    attention = decoder.looks_at(encoder(letters, torch.full((1, LENGTH), -1)))
    assert attention.shape == (1, LENGTH, LENGTH) and torch.allclose(attention.sum(-1), torch.ones(1, LENGTH))
    assert (attention[0, :, 4:] == 0).all()


def test_written_right_counts_sequences_and_letters():
    metric = WrittenRight("german")
    target = torch.tensor([[3, 4, 0, -1], [5, 0, -1, -1], [-1, -1, -1, -1]])
    said = torch.tensor([[3, 4, 0, 9], [5, 7, 0, 0], [1, 1, 1, 1]])
    metric.update(torch.nn.functional.one_hot(said, 10).float(), {"german": target})
    assert metric.compute() == {"exact": 0.5, "letters": 4 / 5}
    assert all(map(math.isnan, WrittenRight("x").compute().values()))
    task = writing("german", "german")
    assert task.count({"german": target}) == (2, 5)
    logits = torch.randn(3, 4, 10, requires_grad=True)
    assert torch.equal(task.loss(logits, {"german": target}), token_loss(logits, target))
    nothing = task.loss(logits, {"german": torch.full((3, 4), -1)})
    assert nothing == 0 and nothing.requires_grad


def test_balanced_accuracy_counts_every_class_the_same():
    metric = BalancedAccuracy("language")
    labels = torch.tensor([0] * 8 + [1, 1, -1])
    metric.update(torch.nn.functional.one_hot(torch.tensor([0] * 8 + [0, 1, 2]), 3).float(), {"language": labels})
    assert metric.compute() == {"accuracy": 0.9, "balanced": 0.75}
    assert math.isnan(BalancedAccuracy("x").compute()["balanced"])


@pytest.mark.parametrize("name", ["EqualWeights", "PCGrad", "MGDAUB", "FAMO"])
def test_any_method_takes_part(name):
    setup = find_case("language", width=8).setup(seed=0, method=METHODS[name]())
    records = list(train(*setup.parts, steps=3, device="cpu"))
    assert set(records[-1].losses) == {"language", "gender", "german"}


def test_a_learner_sees_names_and_numbers():
    case = find_case("language", width=8)
    words = case.open("val")
    rows = case.see(words, range(40), case.new_model({}))
    assert {"german"} in [set(row.truth) for row in rows] and any("language" in row.truth for row in rows)
    assert all(set(row.answers) == set(row.truth) == set(row.right) for row in rows)
    assert all(row.truth["gender"] in GENDERS for row in rows if "gender" in row.truth)
    assert not case.see(words, [0])[0].answers


# real sentences


def write_csv(folder, rows):
    with gzip.open(folder / "snippets.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "domain", "valence", "text"])
        writer.writerows(rows)


ROWS = [("train", domain, v, f"this {domain} is good, really {v}") for domain in DOMAINS for v in (-2.5, 0.0, 3.1)]


def test_sentences_come_with_place_and_rating(tmp_path):
    write_csv(tmp_path, [*ROWS, ROWS[0], ("test", "news", -1.25, "It isn\u2019t so!"), ("val", "tweet", 4, "ok")])
    train_set, test = Snippets(tmp_path, least=2), Snippets(tmp_path, "test", least=2)
    assert (
        len(train_set) == 12 and train_set.vocabulary == test.vocabulary
    )  # a sentence that is there twice counts once
    assert train_set.vocabulary[:2] == ("", "?") and "good" in train_set.vocabulary
    assert float(test[0]["valence"]) == -1.25 and DOMAINS[int(test[0]["domain"])] == "news"
    assert words_of("It isn\u2019t so!!") == ["it", "isn't", "so", "!!"] and int(test[0]["words"][0]) == 1
    read_snippets.cache_clear()


def test_the_archive_of_the_authors_is_read(tmp_path):
    """Sentences of one review or editorial are all in one split."""
    with tarfile.open(tmp_path / "hutto_ICWSM_2014.tar.gz", "w:gz") as archive:
        for name in FILES:
            lines = "".join(
                f"{document}_{k}\t{k - 1.5}\tsentence {document} {k}\n" for document in range(40) for k in range(3)
            )
            content = lines.encode()
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = read_snippets(tmp_path)
    assert len(found) == 480 and {one.split for one in found} == {"train", "val", "test"}
    for domain in ("product", "news"):
        splits = {}
        for one in found:
            if one.domain == domain:
                splits.setdefault(one.text.split()[1], set()).add(one.split)
        assert all(len(of_document) == 1 for of_document in splits.values())
    read_snippets.cache_clear()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("train", "news", "good", "a"), "is rated 'good', which is not a number"),
        (("train", "news", "7", "a"), "valence 7: expected"),
        (("train", "poem", "1", "a"), "domain 'poem'"),
        (("dev", "news", "1", "a"), "split 'dev'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, says):
    write_csv(tmp_path, [*ROWS, row])
    with pytest.raises(DataError, match=says):
        Snippets(tmp_path)
    read_snippets.cache_clear()


def test_without_sentences_it_says_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match="mtlkit data get sentiment fetches them"):
        find_case("snippets", folder=str(tmp_path)).open("train")
    read_snippets.cache_clear()


def test_the_real_sentences(real_data):
    case = find_case("snippets", folder=str(real_data / "hutto_sentiment"))
    sets = [case.open(split) for split in ("train", "val", "test")]
    assert sum(map(len, sets)) > 23_000 and not {*sets[0].texts} & {*sets[2].texts}
    setup = case.setup(seed=0, train_set=sets[0])
    records = list(train(*setup.parts, steps=60, device="cpu"))
    assert records[-1].losses["domain"] < records[0].losses["domain"]
    assert case.see(sets[2], [0], setup.model)[0].truth["domain"] in DOMAINS

"""Speech: sounds, voices, clips, CTC, and recordings of people."""

import math
import wave

import numpy as np
import pytest
import torch

from mtlkit.cases import find_case
from mtlkit.data import DataError
from mtlkit.data.fields import voices as voices_module
from mtlkit.data.fields.sounds import HOP, RATE, log_mel, mel_bands, read_wave
from mtlkit.data.fields.speech import MOST, STRANGERS, Speech, SpokenDigits, spectrograms
from mtlkit.data.fields.voices import DIGITS, PHONES, SPOKEN, VERSIONS, formant_word, spoken
from mtlkit.losses import ctc_loss
from mtlkit.model import AttentionPool, RecurrentEncoder
from mtlkit.tasks import SequenceErrors, edit_distance, heard_in, hearing
from mtlkit.training import evaluate, train


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path_factory.getbasetemp() / "sounds"))


def tone(hertz, seconds=0.5, loud=0.3):
    return loud * torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * RATE)) / RATE)


# sounds


def test_a_tone_is_loudest_in_its_band():
    spectrum = log_mel(torch.stack([tone(500), tone(2000)]))
    assert spectrum.shape == (2, 1 + 4000 // HOP, 40)
    frequencies = torch.linspace(0, RATE / 2, 129)
    for row, hertz in zip(spectrum, (500, 2000), strict=True):
        band = int(row[20].argmax())
        centre = float(frequencies[int(mel_bands()[band].argmax())])
        assert abs(centre - hertz) < 60 + 0.05 * hertz


def test_loudness_and_silence_do_not_matter():
    quiet, loud = log_mel(torch.stack([tone(700, loud=0.01), tone(700, loud=0.9)]))
    assert torch.allclose(quiet, loud, atol=1e-2)
    assert abs(float(quiet.mean())) < 1e-3 and abs(float(quiet.std()) - 1) < 1e-2
    assert log_mel(torch.zeros(1, 4000)).isfinite().all()


def test_every_band_covers_some_frequency():
    bands = mel_bands()
    assert bands.shape == (40, 129) and (bands >= 0).all() and (bands.amax(1) > 0.2).all()


def write(file, samples=4000, channels=1, rate=RATE, width=2):
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes((np.sin(np.arange(samples * channels)) * 9000).astype(np.int16).tobytes())
    return file


def test_what_cannot_be_heard_is_said_in_words(tmp_path):
    assert len(read_wave(write(tmp_path / "0_a_0.wav"))) == 4000
    with pytest.raises(DataError, match=r"2 channels of 16 bits at 8,000 Hz, not 1 of 16 bits.*sox"):
        read_wave(write(tmp_path / "two.wav", channels=2))
    with pytest.raises(DataError, match="at 44,100 Hz"):
        read_wave(write(tmp_path / "fast.wav", rate=44_100))
    with pytest.raises(DataError, match="100 samples: too short"):
        read_wave(write(tmp_path / "short.wav", samples=100))
    (tmp_path / "no.wav").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"no.wav is not a sound that can be read"):
        read_wave(tmp_path / "no.wav")


# voices


def test_our_own_voices_say_ten_digits_in_several_ways():
    says, who = spoken("formants")
    assert who == "formants" and len(says) == 16 and all(len(voice) == len(DIGITS) * VERSIONS for voice in says)
    assert all(0.1 * RATE < len(word) < 0.8 * RATE for voice in says for word in voice)
    assert all(abs(float(np.abs(word).max()) - 0.5) < 1e-3 for voice in says for word in voice)
    assert all(phone in PHONES for word in SPOKEN for phone in word)


def test_a_vowel_has_its_formants():
    """The loudest bands of a long "a" lie at 730 and 1,090 Hz (Peterson and Barney)."""
    word = formant_word("aaaa", 100, 1.0, 0.0, 1.0, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(word[1000:3048] * np.hanning(2048)))
    frequencies = np.fft.rfftfreq(2048, 1 / RATE)
    share = spectrum[(frequencies > 600) & (frequencies < 1250)].sum() / spectrum.sum()
    assert share > 0.4
    pulses = spectrum[(frequencies > 60) & (frequencies < 180)]
    assert abs(frequencies[(frequencies > 60) & (frequencies < 180)][pulses.argmax()] - 100) < 15


def test_made_voices_are_kept_with_their_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return [[np.linspace(-0.5, 0.5, 300 + 10 * k, dtype=np.float32) for k in range(4)] for _ in range(2)]

    monkeypatch.setattr(voices_module, "_espeak_voices", make)
    first, again = spoken("espeak")[0], spoken("espeak")[0]
    assert made == [1] and [len(w) for w in again[1]] == [300, 310, 320, 330]
    assert np.abs(first[0][2] - np.linspace(-0.5, 0.5, 320)).max() < 1e-3
    file = tmp_path / "spoken_digits.npz"
    with np.load(file) as kept:
        parts = dict(kept)
    parts["samples"][5] += 1
    np.savez_compressed(file, **parts)
    with pytest.raises(DataError, match="is not what was written: delete it"):
        spoken("espeak")
    file.write_bytes(b"half of a file")
    with pytest.raises(DataError, match=r"spoken_digits.npz cannot be read \(.*\): delete it, and it is made again"):
        spoken("espeak")


def test_without_espeak_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLKIT_DATA", str(tmp_path))
    monkeypatch.setattr(voices_module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install mtlkit\[speech\], or take voices='formants'"):
        spoken("espeak")
    assert spoken("auto")[1] == "formants"
    with pytest.raises(ValueError, match="voices='siri'"):
        spoken("siri")


def test_espeak_says_the_digits():
    pytest.importorskip("espeakng_loader")
    says, who = spoken("auto")
    assert who == "espeak" and len(says) == 16
    assert all(0.15 * RATE < len(word) < 0.9 * RATE for voice in says for word in voice)
    assert len({word.tobytes() for voice in says for word in voice}) == 16 * 10 * VERSIONS


# clips


def test_clips_are_made_from_a_seed():
    one, twin, other = (Speech("val", 12, seed, "formants") for seed in (0, 0, 1))
    assert torch.equal(one.frames, twin.frames) and not torch.equal(one.frames, other.frames)
    sample = one[3]
    assert sample["frames"].shape == (241, 40) and sample["digits"].shape == (MOST,)
    assert torch.equal(Speech("val", 5, 0, "formants").frames, one.frames[:5])


def test_labels_say_what_the_clip_says():
    clips = Speech("train", 60, 0, "formants")
    digits, word = clips.labels["digits"], clips.labels["word"]
    number = (digits > 0).sum(1)
    assert set(number.tolist()) == {1, 2, 3, 4} and (clips.labels["voice"] >= 0).all()
    assert torch.equal(word >= 0, number == 1)
    assert torch.equal(word[number == 1] + 1, digits[number == 1, 0])


def test_voices_of_the_test_are_new_where_words_are_asked_for():
    test = Speech("test", 40, 0, "formants")
    for clips in (test, Speech("val", 40, 0, "formants")):
        asked = (clips.labels["digits"][:, 0] > 0).nonzero()[:, 0]
        assert torch.equal(asked, torch.arange(1, 40, 2)) and (clips.labels["voice"][asked] == -1).all()
        known = clips.labels["voice"][::2]
        assert (known >= 0).all() and known.max() < STRANGERS["val"].start == len(clips.voices) == 10
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        Speech("dev")


# CTC


def test_ctc_loss_is_minus_the_logarithm_of_all_ways_to_say_it():
    """Two frames, target "1": the ways are 1 1, 1 blank, blank 1."""
    logits = torch.tensor([[[0.2, 0.7, -0.3], [0.5, 0.1, 0.0]]], requires_grad=True)
    p = logits.softmax(-1)[0]
    ways = p[0, 1] * p[1, 1] + p[0, 1] * p[1, 0] + p[0, 0] * p[1, 1]
    loss = ctc_loss(logits, {"digits": torch.tensor([[1, -1]])}, "digits")
    assert torch.allclose(loss, -ways.log())
    both = torch.cat([logits, logits])
    with_nothing = ctc_loss(both, {"digits": torch.tensor([[1, -1], [-1, -1]])}, "digits")
    assert torch.allclose(with_nothing, loss)
    nothing = ctc_loss(logits, {"digits": torch.tensor([[-1, -1]])}, "digits")
    assert nothing == 0 and nothing.requires_grad
    nothing.backward()
    assert logits.grad.isfinite().all()


def test_ctc_says_what_could_never_be_heard():
    logits = torch.zeros(2, 3, 5)
    ctc_loss(logits, {"digits": torch.tensor([[1, 2, 3], [1, 1, -1]])}, "digits")
    with pytest.raises(DataError, match="sequence 1 of the batch has 3 symbols, 1 of them repeated, but only 3"):
        ctc_loss(logits, {"digits": torch.tensor([[1, 2, 3], [1, 1, 2]])}, "digits")
    with pytest.raises(DataError, match="'digits' holds the label 9, but there are 5 classes"):
        ctc_loss(logits, {"digits": torch.tensor([[9, -1, -1], [1, -1, -1]])}, "digits")


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [([], [], 0), ([1], [], 1), ([], [1, 2], 2), ([1, 2, 3], [1, 3], 1), ([1, 2], [2, 1], 2), ([1, 2, 3], [4, 5, 6], 3),
     ([11, 9, 20, 20, 5, 14], [19, 9, 20, 20, 9, 14, 7], 3)],
)  # fmt: skip
def test_edit_distance(a, b, edits):
    """The last one is "kitten" and "sitting"."""
    assert edit_distance(a, b) == edit_distance(b, a) == edits


def test_what_is_heard_leaves_out_blanks_and_repetitions():
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 3, 3, 0, 3, 2, 2], [0, 0, 0, 0, 0, 0, 0]]), 5).float()
    assert heard_in(logits) == [[3, 3, 2], []]
    metric = SequenceErrors("digits")
    metric.update(logits, {"digits": torch.tensor([[3, 2, -1], [4, -1, -1]])})
    assert metric.compute() == {"error": 2 / 3, "wrong": 1.0}
    assert math.isnan(SequenceErrors("x").compute()["error"]) and not hearing("d", "d").higher_is_better


def test_encoder_and_pool():
    encoder, pool = RecurrentEncoder(40, 8, stride=4), AttentionPool(16, 10)
    features = encoder(torch.randn(2, 241, 40))
    assert features.shape == (2, 60, 16) and pool(features).shape == (2, 10)
    assert torch.allclose(pool(features[:, :1].expand(-1, 7, -1)), pool(features[:, :1]), atol=1e-6)  # a mean


# the case


def test_a_learner_sees_what_was_said_and_heard():
    case = find_case("speech", clips=16, val_clips=8, test_clips=8, voices="formants", width=8)
    setup = case.setup(seed=0)
    test = case.open("test")
    rows = case.see(test, range(8), setup.model)
    assert {"voice"} <= set(rows[0].truth) and "digits" in rows[1].truth and set(rows[1].answers) == set(rows[1].truth)
    records = list(train(*setup.parts, steps=4, device="cpu"))
    assert set(records[-1].losses) == {"word", "voice", "digits"}
    assert set(evaluate(setup.model, setup.tasks, test, device="cpu")) >= {"word/accuracy", "digits/error"}


# recordings


def test_recordings_are_split_by_index_or_by_speaker(tmp_path):
    for speaker in ("ann", "bob", "cid"):
        for index in (0, 4, 5, 9, 10, 30):
            write(tmp_path / f"{index % 3}_{speaker}_{index}.wav")
    write(tmp_path / "noise.wav")
    sizes = {split: len(SpokenDigits(tmp_path, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 6, "val": 6, "test": 6}
    test = SpokenDigits(tmp_path, "test", stranger="bob")
    assert len(test) == 6 and all("bob" in path.name for path in test.files) and (test.labels["voice"] == -1).all()
    known = SpokenDigits(tmp_path, "train", stranger="bob")
    assert known.voices == ("ann", "cid") and not any("bob" in path.name for path in known.files)
    assert known[0]["frames"].shape == (81, 40) and known[0]["digits"].tolist() == [
        int(known[0]["word"]) + 1,
        *[-1] * (MOST - 1),
    ]
    with pytest.raises(DataError, match=r"'dora' is none of the speakers in .*: ann, bob, cid"):
        SpokenDigits(tmp_path, stranger="dora")
    with pytest.raises(DataError, match=r"no recordings named DIGIT_SPEAKER_INDEX.wav; mtlkit data get fsdd"):
        SpokenDigits(tmp_path / "empty")


def test_the_real_recordings(real_data):
    test = SpokenDigits(real_data / "fsdd", "test")
    assert len(test) == 300 and len(test.voices) == 6 and test.frames.isfinite().all()
    assert len(SpokenDigits(real_data / "fsdd", "test", stranger="theo")) == 500


def test_no_clip_gives_no_spectrogram_of_the_usual_shape():
    none = spectrograms(np.zeros((0, 8 * HOP), np.float16))
    assert none.shape == (0, 9, 40) and none.dtype == torch.float16
    assert spectrograms(np.zeros((2, 8 * HOP), np.float16)).shape == (2, 9, 40)

"""The quiz that ends each notebook: four questions, four options each, feedback for every option."""

from dataclasses import dataclass
from typing import NamedTuple

LETTERS = "abcd"


class Option(NamedTuple):
    """One possible answer: what it says, what to tell who takes it, whether it is right."""

    text: str
    feedback: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with four options, one of them right."""

    text: str
    options: tuple[Option, Option, Option, Option]

    def feedback(self, letter: str) -> str:
        """Return what to tell who answered `letter`."""
        option = self.options[LETTERS.index(letter)]
        return f"{'✓ Right' if option.right else '✗ No'}: {option.feedback}"


def quiz(notebook: str) -> None:
    """Print the questions of a notebook, e.g. "02": the quiz without widgets. Answer with `answer("02.A", "c")`."""
    for letter, question in zip("ABCD", _find(notebook), strict=True):
        print(f"{notebook}.{letter}  {question.text}")
        for name, option in zip(LETTERS, question.options, strict=True):
            print(f"      ({name}) {option.text}")
    print(f'\nAnswer with answer("{notebook}.A", "b")')


def answer(id: str, letter: str) -> None:
    """Print the feedback for an answer, e.g. `answer("02.A", "c")`."""
    notebook, _, which = id.partition(".")
    questions = _find(notebook)
    if which not in tuple("ABCD") or letter not in tuple(LETTERS):
        raise ValueError(f'expected something like answer("{notebook}.A", "c"), not answer({id!r}, {letter!r})')
    print(questions["ABCD".index(which)].feedback(letter))


def as_markdown(notebook: str) -> str:
    """Return the quiz for a page without a kernel: options, and the feedback folded away."""
    parts = []
    for letter, question in zip("ABCD", _find(notebook), strict=True):
        lines = [f"**{letter}.** {question.text}", ""]
        lines += [f"- ({name}) {option.text}" for name, option in zip(LETTERS, question.options, strict=True)]
        told = "\n".join(f"- ({name}) {question.feedback(name)}" for name in LETTERS)
        parts.append("\n".join(lines) + f"\n\n<details><summary>Answers</summary>\n\n{told}\n\n</details>\n")
    return "\n".join(parts)


def _find(notebook: str) -> tuple[Question, ...]:
    if notebook not in QUIZZES:
        raise ValueError(f"there is no quiz {notebook!r}; there are {', '.join(QUIZZES)}")
    return QUIZZES[notebook]


QUIZZES: dict[str, tuple[Question, Question, Question, Question]] = {
    "01": (
        Question(
            "Which parameters does the loss of task 2 move in a hard-sharing network?",
            (
                Option("only its head", "its gradient goes on, through the head, into the encoder."),
                Option("the encoder and its head", "and never the other tasks' heads.", True),
                Option("all parameters", "the other heads are not on the path from the input to its output."),
                Option("only the encoder", "the head lies on the path from the features to its output."),
            ),
        ),
        Question(
            "Two tasks, one encoder of 900 parameters, heads of 100 each. The joint model has what part of two networks?",
            (
                Option("50 %", "only the encoder is shared; the heads are needed either way."),
                Option("45 %", "900 / 2000 leaves the heads of the joint model out."),
                Option("55 %", "(900 + 200) / (2 · 900 + 200) = 1100 / 2000.", True),
                Option("90 %", "that is the encoder's part of one single-task network."),
            ),
        ),
        Question(
            "“Sharing always lowers the cost.” What is true?",
            (
                Option(
                    "it lowers it where the encoder is the larger part", "the heads cost the same either way.", True
                ),
                Option("yes, by the number of tasks", "that would need heads that are free."),
                Option("no, it never does", "this notebook measured a saving in parameters, operations and seconds."),
                Option("it lowers memory only", "the encoder also runs once instead of twice."),
            ),
        ),
        Question(
            "In soft sharing, two tasks",
            (
                Option("use one encoder, each with half the weight", "that would still be hard sharing."),
                Option("have networks of their own, held close by a penalty", "so nothing is saved in size.", True),
                Option("share heads but not encoders", "heads have different outputs; they are what is *not* shared."),
                Option("take turns in training", "that is a schedule; it can be used with any kind of sharing."),
            ),
        ),
    ),
    "02": (
        Question(
            "L = Σ l(x_1 + x_2, ŷ_1 + ŷ_2) cannot be the loss of two tasks, because",
            (
                Option("a sum must be a mean", "sum or mean only changes the scale of the gradient."),
                Option(
                    "it mixes what belongs to different tasks", "each task compares its own ŷ with its own y.", True
                ),
                Option("losses must be positive", "this one may well be positive, and still meaningless."),
                Option("x does not occur in a loss", "it does, by way of ŷ = f(h(x))."),
            ),
        ),
        Question(
            "Two losses are equal in size. Does each pull equally at the shared parameters?",
            (
                Option("yes", "size and slope are different things: think of a flat valley high up."),
                Option("no, their gradients may differ in length", "and it is gradients that move parameters.", True),
                Option("no, the first always wins", "a sum does not care about order."),
                Option("only with Adam", "Adam rescales the *sum*; it cannot tell who contributed what."),
            ),
        ),
        Question(
            "cos(g_1, g_2) = -0.8 and both gradients have the same length. Their sum",
            (
                Option("is zero", "only for cosine -1."),
                Option("hurts both tasks", "g_1·(g_1 + g_2) = ‖g‖²(1 - 0.8) > 0: it helps both, a little."),
                Option("helps both tasks, but far less than each alone", "a fifth of ‖g‖² is left for each.", True),
                Option("helps one and hurts the other", "that needs different lengths: dominance."),
            ),
        ),
        Question(
            "`total = sum(loss.item() for loss in losses)`; then `total.backward()`. What happens?",
            (
                Option("an error: a float has no backward", "here you are lucky: the mistake is loud.", True),
                Option("it trains as usual", "`.item()` leaves the graph behind."),
                Option("it trains, but slowly", "nothing is left to be differentiated."),
                Option("only the heads learn", "no parameter is connected to a Python float."),
            ),
        ),
    ),
    "03": (
        Question(
            "An image has `has_boxes = False`. The detection loss for it is",
            (
                Option("high, as all boxes were missed", "that would punish right detections that nobody annotated."),
                Option("zero", "nobody has looked, so nothing is owed.", True),
                Option("NaN", "that would be a division by zero, which the loss avoids."),
                Option("that of an empty image", "an image *known* to be empty pays for every invented digit."),
            ),
        ),
        Question(
            "AP50 is high, AP is low. The model",
            (
                Option("misses objects", "that would lower AP50 as well."),
                Option("confuses classes", "that would lower AP50 as well."),
                Option("draws boxes loosely", "they pass at IoU 0.5 and fail at stricter thresholds.", True),
                Option("is too confident", "only the order of the confidences matters to AP, not their size."),
            ),
        ),
        Question(
            "Why does the detection head not average over the grid?",
            (
                Option("to save time", "averaging would be cheaper."),
                Option("because the answer depends on the place", "averaging throws away where things are.", True),
                Option("because it has more classes", "the number of outputs has nothing to do with it."),
                Option("it does", "look at the shapes in section 3: its output has a grid."),
            ),
        ),
        Question(
            "You flip a picture and forget the boxes.",
            (
                Option("the loss becomes NaN", "the numbers are fine, only wrong."),
                Option("an error is raised", "no code can see that a box is in the wrong place."),
                Option("training runs and the boxes are learned wrong", "so draw your samples before training.", True),
                Option("nothing changes", "half of the targets are wrong."),
            ),
        ),
    ),
    "05": (
        Question(
            "With uncertainty weighting the total loss is -1.3. What is wrong?",
            (
                Option("the learning rate is too high", "then losses would rise; look at them."),
                Option("a loss is negative", "all losses can be positive: ½ log l is not."),
                Option("nothing", "at the optimum the total is Σ ½(1 + log l_i), negative for small losses.", True),
                Option("s was clamped", "then the weights would stop moving; the total says nothing about that."),
            ),
        ),
        Question(
            "One task has converged: its gradient is nearly zero. What does MGDA do?",
            (
                Option("it ignores that task", "on the contrary: short gradients dominate the shortest combination."),
                Option(
                    "it nearly stops", "the shortest combination is at most as long as the shortest gradient.", True
                ),
                Option("it follows the longest gradient", "that is what a plain sum does."),
                Option("it fails", "the problem has a solution, a short one."),
            ),
        ),
        Question(
            "Taking the gradients at the shared features instead of the parameters",
            (
                Option("is exact and cheaper", "cheaper yes; the inner products are those of an upper bound."),
                Option("costs one pass through the encoder instead of K", "hence its use in MGDA-UB.", True),
                Option("needs more memory for the Jacobian of the encoder", "that Jacobian is never formed."),
                Option("works for heads only", "the combined gradient is sent on through the encoder."),
            ),
        ),
        Question(
            "A new method beats *equal* weights on your data. You conclude that",
            (
                Option("it beats static weights", "equal weights are one point of the static front; tune the others."),
                Option("it resolves gradient conflict", "it may just have found a better ratio of the tasks."),
                Option("you should also compare with tuned static weights", "at the same budget, over seeds.", True),
                Option("equal weights are useless", "they may be near the best of the front on other data."),
            ),
        ),
    ),
    "04": (
        Question(
            "detect's weight goes to 0, and detect's loss *rises*. Why?",
            (
                Option(
                    "its head goes on training with the wrong sign",
                    "its head gets no gradient at all and stands still.",
                ),
                Option("the encoder moves on under a head that stands still", "it follows classify alone.", True),
                Option("the weighted loss grows when a weight falls", "the picture shows losses *before* weighting."),
                Option("weight decay erases the detection head", "it shrinks it a little; far too slowly for this."),
            ),
        ),
        Question(
            "The arrows make 120°, and detect's is four times as long. A step along the sum",
            (
                Option("hurts both tasks", "the sum of two gradients can never point against both."),
                Option("helps both a little", "for that the lengths would have to be nearer to each other."),
                Option("helps detect and hurts classify", "1 + 4 cos 120° = -1 < 0 for classify.", True),
                Option("helps classify and hurts detect", "4 + cos 120° = 3.5 > 0 for detect."),
            ),
        ),
        Question(
            "You multiply *both* weights by 10. With this optimiser (AdamW and Muon)",
            (
                Option("the network learns ten times faster", "that is what plain SGD would try."),
                Option(
                    "nearly nothing changes",
                    "both divide by the gradient's size; the ratio of the weights rules.",
                    True,
                ),
                Option("training explodes", "the gradient is also clipped, and its direction is the same."),
                Option("the arrows change their angle", "the angle does not depend on lengths."),
            ),
        ),
        Question(
            "You found a schedule that beats PCGrad on seed 0. What may you claim?",
            (
                Option("hand-made schedules beat PCGrad", "one seed, one problem, and a schedule tuned on its score."),
                Option("PCGrad does not work", "you did not even tune its learning rate."),
                Option("nothing before other seeds are run", "and both sides have had the same tuning.", True),
                Option("the schedule is optimal", "it is better than one other run."),
            ),
        ),
    ),
    "09": (
        Question(
            "A language model trains on 90 % English and 10 % sums, with one loss, the mean over all tokens. Its loss weights are",
            (
                Option(
                    "absent: there is one loss", "it is a sum over tasks all the same, each with its share of tokens."
                ),
                Option("1 for both tasks", "then a token of the small task would count more than one of English."),
                Option("the tasks' shares of the tokens", "the mixture of the data *is* the weighting.", True),
                Option("learned", "nothing in the loss can change them."),
            ),
        ),
        Question(
            "You raise the mixing temperature from 1 to 5. What gets *worse*, most likely?",
            (
                Option("the smallest task, early on", "it is drawn more often now, so it learns faster at first."),
                Option("the largest task", "its share of the draws falls, and the budget is the same.", True),
                Option("nothing: more balance is better", "a budget is divided, not enlarged."),
                Option("the speed of a step", "a step costs the same, whatever is in the batch."),
            ),
        ),
        Question(
            "What does activation checkpointing save, and what does it cost?",
            (
                Option(
                    "optimiser memory, for some accuracy",
                    "it does not touch the optimiser, and the update is the same.",
                ),
                Option("activations, for about a third more operations", "the forward pass is done twice.", True),
                Option("parameters, for time", "all parameters stay."),
                Option("time, for memory", "the other way round."),
            ),
        ),
        Question(
            "Two processes hold half the batch each, 30 and 10 labels of a task. Each divides by its own number. The average is",
            (
                Option("right: averages of averages are averages", "only where all parts are equally large."),
                Option("wrong: a label in the second half counts three times as much", "divide by 40 in both.", True),
                Option("wrong only for gradient methods", "a plain sum of losses is just as wrong."),
                Option("right after enough steps", "the bias does not average out: it favours scarce labels always."),
            ),
        ),
    ),
}

"""Guidance and step distillation: starting points, losses against closed forms, exact resumption of both methods."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.several_ranks import on_ranks
from helpers.small_transformer import CONFIG, SmallTask

from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.errors import UserError
from hunyuan_video.flow import FlowObjective, FlowSchedule, classifier_free_guidance, euler_step
from hunyuan_video.models import HunyuanVideoTransformer
from hunyuan_video.models.lora import lora_layers
from hunyuan_video.models.transformer.embeddings import sinusoid
from hunyuan_video.training.config import (
    KINDS,
    GuidanceDistillationRun,
    LoopConfig,
    OptimizerConfig,
    StepDistillationRun,
    build,
)
from hunyuan_video.training.loop import train
from hunyuan_video.training.tasks.fields import expand
from hunyuan_video.training.tasks.guidance_distillation import (
    GuidanceDistillationTask,
    compare,
    guidance_student,
    target_energy,
)
from hunyuan_video.training.tasks.step_distillation.losses import distribution_matching_loss, pseudo_huber
from hunyuan_video.training.tasks.step_distillation.student import ADAPTER_FILE, export_student, make_student
from hunyuan_video.training.tasks.step_distillation.task import METHODS
from hunyuan_video.training.tasks.teacher import Teacher

LOOP = LoopConfig(steps=4, batch=4, precision="fp32", log_every=1, save_every=2, sheet_every=0)
OPTIMIZER = OptimizerConfig(lr=1e-2, warmup_steps=1)


def quiet(line):
    pass


class RandomData:
    """Latents and conditions without files."""

    shape = (4, 2, 4, 4)
    scenes = range(8)

    def pick(self, count, generator):
        return torch.randn(count, *self.shape, generator=generator), list(range(count))

    def captions(self, picks, generator, dropout=0.0):
        return [str(pick) for pick in picks]

    def embed(self, prompts):
        generator = torch.Generator().manual_seed(len(prompts))
        text = torch.randn(len(prompts), 5, 8, generator=generator)
        pooled = torch.randn(len(prompts), 6, generator=generator)
        return {"text": text, "text_mask": torch.ones(len(prompts), 5), "pooled_text": pooled}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "export"
    SmallTask(1).network.save_pretrained(folder)
    return str(folder)


def teacher_of(path) -> Teacher:
    return Teacher(HunyuanVideoTransformer.from_pretrained(path), RandomData().embed([""]))


def config_of(path, method="consistency", **changes) -> StepDistillationRun:
    defaults = {"teacher": path, "loop": LOOP, "optimizer": OPTIMIZER, "rank": 2, "steps": 2, "teacher_levels": 6}
    return StepDistillationRun(
        method=method, fake_updates=2, fake_rank=2, fake_optimizer=OPTIMIZER, **{**defaults, **changes}
    )


def task_of(config) -> SimpleNamespace:
    """The task of a run without its files."""
    torch.manual_seed(0)
    student = make_student(config.teacher, config.rank)
    method = METHODS[config.method](config, student, teacher_of(config.teacher), RandomData())
    names = ("loss", "begin", "auxiliary", "extra_state", "load_extra_state")
    return SimpleNamespace(
        network=student,
        method=method,
        evaluate=lambda step, folder: {},
        export=lambda folder: export_student(student, config.rank, folder),
        **{name: getattr(method, name) for name in names},
    )


def test_guidance_student_starts_as_the_conditional_branch_at_every_scale():
    teacher = SmallTask(1).network.eval()
    student = guidance_student(teacher).eval()
    condition, x, t = RandomData().embed(["a", "b"]), torch.randn(2, 4, 2, 4, 4), torch.tensor([100.0, 800.0])
    with torch.no_grad():
        expected = teacher(x, t, **condition)
        for scale in (1.0, 8.0):
            guidance = torch.full((2,), 1000 * scale)
            assert torch.equal(student(x, t, **condition, guidance=guidance), expected)
    assert student.guidance_in.mlp[0].weight.abs().sum() > 0  # so that the last layer has a gradient
    with pytest.raises(ValueError, match="already"):
        guidance_student(student)


def test_guidance_embedder_sees_near_scales_alike_and_far_scales_apart():
    """6 in bfloat16, times 1000, is 6016: to a plain embedder that is another scale altogether."""
    first = guidance_student(SmallTask(1).network).guidance_in.mlp[0]
    with torch.no_grad():
        six, rounded, two = first(sinusoid(torch.tensor([6000.0, 6016.0, 2000.0])))
    assert (six - rounded).norm() < 0.05 * (six - two).norm()


def test_target_energy_is_the_square_of_the_target_where_the_branches_differ_at_right_angles():
    full, apart = torch.zeros(2, 4, 1, 1, 1), torch.zeros(2, 4, 1, 1, 1)
    full[:, 0], apart[:, 1], scale = 3.0, 2.0, torch.tensor([1.0, 5.0])
    energy = target_energy(full - apart, full, scale)
    torch.testing.assert_close(energy, torch.tensor([9.0, 9.0 + 16 * 4.0]) / 4)
    torch.testing.assert_close(energy, classifier_free_guidance(full, full - apart, scale).square().flatten(1).mean(1))


@pytest.mark.parametrize(("even", "beyond"), [(0.0, 0.0016), (1.0, 0.05), (0.5, 0.0258)])
def test_guidance_times_reach_the_noisy_end(even, beyond):
    task = SimpleNamespace(config=GuidanceDistillationRun(even_times=even), objective=FlowObjective())
    times = GuidanceDistillationTask.draw(task, torch.zeros(20_000, 1), torch.Generator().manual_seed(0)).times
    assert (times > 0.95).float().mean().item() == pytest.approx(beyond, abs=0.004)


def test_report_pairs_the_prompts():
    result = compare(
        {"all": [True, True, False, True], "camera": []}, {"all": [True, False, False, False], "camera": []}
    )
    assert result["student"] == {"all": 0.75} and result["teacher"] == {"all": 0.25}
    assert result["difference"]["all"] == (0.5, pytest.approx((1 / 3) ** 0.5 / 2))


def test_teacher_is_classifier_free_guidance_in_one_batch(path):
    teacher = teacher_of(path)
    x, times = torch.randn(3, 4, 2, 4, 4), torch.tensor([0.2, 0.5, 0.9])
    condition = RandomData().embed(["a", "b", "c"])
    scale = torch.tensor([1.0, 3.0, 8.0])
    with torch.no_grad():
        full = teacher.network(x, 1000 * times, **condition)
        empty = teacher.network(x, 1000 * times, **expand(teacher.empty, 3))
    expected = torch.stack([classifier_free_guidance(*pair, float(s)) for *pair, s in zip(full, empty, scale)])  # noqa: B905
    torch.testing.assert_close(teacher.velocity(x, times, condition, scale), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(teacher.velocity(x, times, condition, 1.0), full, rtol=1e-5, atol=1e-5)


def test_a_jump_is_exact_on_straight_paths_and_the_identity_at_the_boundary():
    data, noise, t, s = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([0.9, 0.4]), torch.tensor([0.5, 0.4])
    x = (1 - t[:, None]) * data + t[:, None] * noise
    expected = (1 - s[:, None]) * data + s[:, None] * noise
    torch.testing.assert_close(euler_step(x, noise - data, t, s), expected)
    assert torch.equal(euler_step(x, noise - data, t, s)[1], x[1])


def test_pseudo_huber_is_quadratic_near_zero_and_linear_far_away():
    assert pseudo_huber(torch.zeros(4), 0.1) == 0
    assert pseudo_huber(torch.tensor([1e-3]), 0.1).item() == pytest.approx(1e-6 / 0.2, rel=1e-3)
    assert pseudo_huber(torch.tensor([-50.0]), 0.1).item() == pytest.approx(49.9, rel=1e-4)


def test_distribution_matching_gradient_is_the_normalized_difference_of_the_scores():
    clean = torch.randn(3, 5, requires_grad=True)
    real, fake = torch.randn(3, 5), torch.randn(3, 5)
    distribution_matching_loss(clean, real, fake).backward()
    scale = (clean.detach() - real).abs().mean(1, keepdim=True)
    torch.testing.assert_close(clean.grad, (fake - real) / scale / clean.numel())


def test_distribution_matching_moves_a_gaussian_to_its_target():
    """Student x = m + s z; both scores known in closed form: the mean and deviation of the data are found."""
    torch.manual_seed(0)
    mean, log_std = torch.tensor(0.0, requires_grad=True), torch.tensor(-1.0, requires_grad=True)

    def posterior(x, t, m, s):  # E[data | x_t] of data ~ N(m, s^2)
        return m + (1 - t) * s**2 / ((1 - t) ** 2 * s**2 + t**2) * (x - (1 - t) * m)

    optimizer = torch.optim.Adam([mean, log_std], 0.02)
    for _ in range(400):
        clean = mean + log_std.exp() * torch.randn(256, 16)
        t = torch.rand(256, 1) * 0.96 + 0.02
        noised = (1 - t) * clean.detach() + t * torch.randn(256, 16)
        m, s = mean.detach(), log_std.detach().exp()
        loss = distribution_matching_loss(clean, posterior(noised, t, 2.0, 1.5), posterior(noised, t, m, s))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert mean.item() == pytest.approx(2.0, abs=0.1) and log_std.exp().item() == pytest.approx(1.5, abs=0.15)


def test_consistency_loss_is_zero_for_a_student_that_is_consistent(path):
    """One data point: every velocity points at it, teacher and student alike, and all jumps agree."""
    config = config_of(path, guidance_scale=1.0)
    method = task_of(config).method
    point = torch.randn(1, *RandomData.shape)
    exact = SimpleNamespace(
        config=SimpleNamespace(guidance_embed=False),
        velocity=lambda x, times, condition, scale: (x - point) / times.view(-1, 1, 1, 1, 1),
    )
    method.teacher = exact
    method.student = method.target = _Field(point)
    method.data.pick = lambda count, generator: (point.expand(count, *RandomData.shape), list(range(count)))
    loss, _ = method.loss(0, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


class _Field(torch.nn.Module):
    def __init__(self, point):
        super().__init__()
        self.point, self.config = point, SimpleNamespace(guidance_embed=False)

    def forward(self, x, timestep, **condition):
        return (x - self.point) / (timestep / 1000).clamp(min=1e-3).view(-1, 1, 1, 1, 1)  # at 0 the jump is 0


def test_the_solver_never_leaves_the_phase(path):
    method = task_of(config_of(path, teacher_levels=12, teacher_steps=4)).method
    start = torch.tensor([0, 3, 5, 6, 11])
    end = (start // 6 + 1) * 6
    x = torch.randn(5, *RandomData.shape)
    reached, index = method.teach(x, start, end, RandomData().embed(list("abcde")))
    assert index.tolist() == [4, 6, 6, 10, 12] and reached.shape == x.shape
    phases = FlowSchedule(2, method.config.shift).sigmas
    torch.testing.assert_close(method.sigmas[[0, 6, 12]], phases)  # phase ends are the student's own levels


def test_fake_score_learns_in_the_loss_and_the_student_from_the_loop(path):
    task = task_of(config_of(path, "dmd"))
    fake = task.auxiliary["fake"]
    fake.prepare(LOOP, join_ranks(LOOP.device, LOOP.parallel))
    before = [a.lora_B.detach().clone() for _, layer in lora_layers(fake.network) for a in layer.adapters.values()]
    loss, _ = task.loss(0, torch.Generator().manual_seed(0))
    loss.backward()
    after = [a.lora_B.detach() for _, layer in lora_layers(fake.network) for a in layer.adapters.values()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in fake.network.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.network.parameters() if p.requires_grad)


def test_dmd_has_no_gradient_where_both_scores_agree(path):
    """Neither adapter has learned and the teacher is unguided: the scores are one network, the loss has no slope."""
    task = task_of(config_of(path, "dmd", guidance_scale=1.0))
    condition = RandomData().embed(list("abcd"))
    generator = torch.Generator().manual_seed(0)
    task.method.student_loss(task.method.generate(condition, generator), condition, generator).backward()
    slopes = [p.grad.abs().max().item() for p in task.network.parameters() if p.grad is not None]
    assert slopes and max(slopes) < 1e-6


def target_of_a_rank(rank, path, folder):
    task = task_of(config_of(path))
    train(task, replace(LOOP, micro_batches=2), OPTIMIZER, folder, False, quiet)
    target = dict(task.method.target.named_parameters())
    return sum(target[name].double().abs().sum().item() for name in task.method.trained)


def test_the_consistency_target_moves_on_every_rank(path, tmp_path):
    alone = target_of_a_rank(0, path, tmp_path / "alone")
    assert on_ranks(2, target_of_a_rank, path, tmp_path / "two") == pytest.approx([alone, alone], rel=1e-4)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_interrupted_and_resumed_equals_unbroken_bitwise(method, path, tmp_path):
    config = config_of(path, method)
    train(task_of(config), LOOP, OPTIMIZER, tmp_path / "whole", False, quiet)
    train(task_of(config), replace(LOOP, steps=2), replace(OPTIMIZER, decay=0.0), tmp_path / "half", False, quiet)
    whole = task_of(config)
    train(whole, LOOP, replace(OPTIMIZER, decay=0.0), tmp_path / "again", False, quiet)
    resumed = task_of(config)
    train(resumed, LOOP, replace(OPTIMIZER, decay=0.0), tmp_path / "half", True, quiet)
    expected = dict(whole.network.named_parameters())
    assert all(torch.equal(value, expected[name]) for name, value in resumed.network.named_parameters())
    assert (tmp_path / "half/export" / ADAPTER_FILE).exists()


def test_exported_adapter_continues(path, tmp_path):
    config = config_of(path)
    task = task_of(config)
    train(task, LOOP, OPTIMIZER, tmp_path / "run", False, quiet)
    file = str(tmp_path / "run/export" / ADAPTER_FILE)
    again = make_student(path, 2, adapter=file)
    assert sum(p.requires_grad for p in again.parameters()) == sum(p.requires_grad for p in task.network.parameters())
    assert again.config == CONFIG


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("step_distillation", {"method": "magic"}, "method must be one of consistency, dmd"),
        ("step_distillation", {"teacher_levels": 7}, "multiple of steps"),
        ("step_distillation", {"teacher_steps": 0}, "teacher_steps must be at least 1"),
        ("step_distillation", {"method": "dmd", "score_times": [0.0, 1.0]}, "score_times"),
        ("step_distillation", {"method": "dmd", "fake_updates": 0}, "fake_updates must be at least 1"),
        ("guidance_distillation", {"scales": [8.0, 1.0]}, "scales must be two numbers"),
        ("guidance_distillation", {"even_times": 2.0}, "even_times must be at least 0 and at most 1"),
    ],
)
def test_wrong_configurations_are_one_line(kind, changes, message):
    with pytest.raises(UserError, match=message):
        build(KINDS[kind], changes, "run.yaml")

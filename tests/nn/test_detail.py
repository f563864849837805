import torch

from dilated.nn.detail import Detail


def test_a_fresh_correction_changes_nothing_even_while_training() -> None:
    torch.manual_seed(0)
    detail = Detail(channels=5, classes=3, width=4)
    scores = torch.randn(2, 3, 6, 7)
    assert torch.equal(detail(scores, torch.randn(2, 5, 6, 7)), scores)


def test_a_fresh_correction_can_learn() -> None:
    torch.manual_seed(0)
    detail = Detail(channels=5, classes=3, width=4)
    detail(torch.randn(2, 3, 6, 7), torch.randn(2, 5, 6, 7)).square().sum().backward()
    assert detail.correct.weight.grad.abs().max() > 0


def test_a_correction_reads_both_the_features_and_the_scores() -> None:
    torch.manual_seed(0)
    detail = Detail(channels=5, classes=3, width=4).eval()
    torch.nn.init.normal_(detail.correct.weight)
    scores, features = torch.randn(1, 3, 6, 7), torch.randn(1, 5, 6, 7)
    correction = detail(scores, features) - scores
    assert not torch.allclose(correction, detail(scores, features + 1) - scores)
    assert not torch.allclose(correction, detail(scores + 1, features) - scores - 1)

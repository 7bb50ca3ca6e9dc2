"""Second opinions on Score-CAM, Ablation-CAM, FullGrad and LeGrad, where torch-cam and grad-cam are right.

They differ from the papers elsewhere: masks are scaled before upsampling (torch-cam) or upsampled with aligned corners
(grad-cam), a negative score turns Ablation-CAM round (grad-cam). Here maps are as large as images, scores positive.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from explain.maps import normalize_maps, resize_maps
from explain.saliency.attention import legrad
from explain.saliency.fullgrad import fullgrad
from explain.saliency.perturbation import ablation_cam, score_cam

CLASSES = torch.tensor([[2], [0]])


class Net(nn.Module):
    """A trunk whose map is as large as the image, and a head that is not linear."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.AvgPool2d(5), nn.Flatten(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x):
        return self.head(self.trunk(x))


class Times(nn.Module):
    """Large scores, beside which grad-cam's absolute epsilon in min-max (1e-7) is small."""

    def forward(self, x):
        return 1e4 * x


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.head[4].bias.add_(3)
        model.train()(torch.randn(8, 3, 10, 10) + 0.5)
    return model.eval(), torch.randn(2, 3, 10, 10)


def scorer(function):
    return lambda values, rows: function(values).gather(1, CLASSES[rows])


def grad_cam():
    return pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")


def targets():
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    return [ClassifierOutputTarget(int(row[0])) for row in CLASSES]


def close(theirs, ours):
    """Grad-cam scales each map to 0…1."""
    assert float(ours.max()) > float(ours.min())
    torch.testing.assert_close(torch.as_tensor(theirs), normalize_maps(ours, "minmax")[:, 0], rtol=1e-3, atol=2e-4)


def test_grad_cams_score_cam(net):
    model, x = net
    with grad_cam().ScoreCAM(model, [model.trunk]) as extractor:
        theirs = extractor(x, targets=targets())
    with torch.no_grad():
        close(theirs, score_cam(model.trunk(x), x, scorer(model)))


def test_torchcams_score_cam(net):
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed")
    model, x = net
    with torch.no_grad(), methods.ScoreCAM(model, "trunk", input_shape=(3, 10, 10)) as extractor:
        model(x)
        (theirs,) = extractor([int(row[0]) for row in CLASSES], normalized=False)
        ours = score_cam(model.trunk(x), x, scorer(model))[:, 0]
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5 * float(ours.max()))


def test_grad_cams_ablation_cam(net):
    model, x = net
    with torch.no_grad():
        base = model(x).gather(1, CLASSES)
        assert float(base.min()) > 0
        ours = ablation_cam(model.trunk(x), scorer(model.head), base)
    trunk = model.trunk
    with grad_cam().AblationCAM(model, [trunk], batch_size=8) as extractor:
        theirs = extractor(x, targets=targets())
    assert model.trunk is trunk
    close(theirs, ours)


def test_grad_cams_fullgrad(net):
    model, x = nn.Sequential(net[0], Times()), net[1]
    with grad_cam().FullGrad(model, []) as extractor:
        theirs = extractor(x.clone(), targets=targets())
    close(theirs, fullgrad(model, x, lambda images: model(images).gather(1, CLASSES), rescale="channel"))


def test_torchcams_legrad():
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed")
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3).eval()
    nn.init.normal_(model.heads.head.weight)  # it is zero at first
    x = torch.randn(2, 3, 32, 32)
    with methods.LeGrad(model, list(model.encoder.layers)) as extractor:
        model(x)
        (theirs,) = extractor([int(row[0]) for row in CLASSES], normalized=False)
    ours = legrad(model, lambda: model(x).gather(1, CLASSES), prefix=1).unflatten(2, (4, 4))
    assert float(ours.max()) > 0
    torch.testing.assert_close(
        theirs.detach(), resize_maps(ours, tuple(theirs.shape[1:]))[:, 0], rtol=1e-4, atol=1e-6 * float(ours.max())
    )

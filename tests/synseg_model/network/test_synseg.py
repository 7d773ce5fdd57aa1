import dataclasses

import numpy as np
import pytest
import torch

from synseg_model.config import DecoderConfig
from synseg_model.network.clipseg_decoder import PatchTransposed
from synseg_model.network.synseg import SynSeg


@pytest.fixture
def text():
    return torch.randn(5, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_logits_have_one_map_per_image_and_label_at_input_size(small_network, images, text):
    assert small_network(images, text).shape == (2, 5, 64, 64)


@torch.no_grad()
def test_encoding_once_equals_separate_calls_per_label(small_network, images, text):
    together = small_network(images, text)
    apart = torch.stack([small_network(images, label[None])[:, 0] for label in text], dim=1)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_labels_of_each_image_may_differ(small_network, images, text):
    own = torch.stack([text[:2], text[2:4]])
    both = small_network(images, own)
    torch.testing.assert_close(both[0], small_network(images[:1], text[:2])[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1], small_network(images[1:], text[2:4])[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_image_is_encoded_once_however_many_chunks(small_network, images, text):
    calls = []
    small_network.encoder.clip.visual.conv1.register_forward_hook(lambda *_: calls.append(1))
    whole = small_network(images, text)
    small_network.decoder_memory = 1  # one label at a time
    decodes = []
    small_network.decoder.register_forward_hook(lambda *_: decodes.append(1))
    chunked = small_network(images, text)
    assert len(decodes) == len(text)
    assert len(calls) == 2, "one encoder pass per call"
    torch.testing.assert_close(whole, chunked, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("conditional_layer", [0, 1, 2])
def test_blocks_before_film_run_once_per_image(small_config, images, text, conditional_layer):
    decoder = dataclasses.replace(small_config.decoder, conditional_layer=conditional_layer)
    network = SynSeg.from_config(dataclasses.replace(small_config, decoder=decoder)).eval()
    network.decoder_memory = 1  # one label at a time
    runs = [0, 0, 0]
    for index, block in enumerate(network.decoder.blocks):
        block.register_forward_hook(lambda *_, index=index: runs.__setitem__(index, runs[index] + 1))
    network(images, text)
    assert runs == [1 if index < conditional_layer else len(text) for index in range(3)]


@torch.no_grad()
def test_1203_labels_work_within_the_memory_budget(small_network):
    small_network.decoder_memory = 2**20
    largest = []
    small_network.decoder.blocks[0].register_forward_hook(lambda _m, inputs, _o: largest.append(len(inputs[0])))
    logits = small_network(torch.zeros(1, 3, 64, 64), torch.randn(1203, 48))
    assert logits.shape == (1, 1203, 64, 64)
    assert max(largest) * small_network.decoder.bytes_per_label((4, 4)) <= 2**20


@torch.no_grad()
def test_non_square_image_equals_its_transpose_decoded_on_a_transposed_grid(small_network, text):
    # A network whose position embedding and kernels are symmetric must treat an image and its transpose alike.
    visual = small_network.encoder.clip.visual
    grid = visual.positional_embedding[1:].view(4, 4, -1)
    visual.positional_embedding[1:] = ((grid + grid.transpose(0, 1)) / 2).reshape(16, -1)
    visual.conv1.weight.copy_((visual.conv1.weight + visual.conv1.weight.mT) / 2)
    for layer in small_network.decoder.head:
        if hasattr(layer, "weight"):
            layer.weight.copy_((layer.weight + layer.weight.mT) / 2)
    wide = torch.randn(1, 3, 48, 96)
    torch.testing.assert_close(small_network(wide, text).mT, small_network(wide.mT, text), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_plain_head_upsamples_each_token_alone(small_config, images, text):
    config = dataclasses.replace(small_config, decoder=DecoderConfig(layers=(0, 3), width=16, heads=2, ffn=32))
    network = SynSeg.from_config(config).eval()
    assert network(images, text).shape == (2, 5, 64, 64)
    assert network.decoder.head.kernel_size == network.decoder.head.stride == (16, 16)


def test_only_film_and_decoder_learn_and_the_encoder_stays_in_eval_mode(small_network, images, text):
    small_network.train()
    small_network(images, text).sum().backward()
    assert not any(module.training for module in small_network.encoder.modules())
    assert all(p.grad is None for p in small_network.encoder.parameters())
    assert all(p.grad is not None for p in small_network.decoder.parameters())


@pytest.mark.parametrize("shape", [(5,), (5, 47), (3, 5, 48), (0, 48)])
def test_text_of_a_wrong_shape_is_refused_with_its_shape(small_network, images, shape):
    with pytest.raises(ValueError, match=r"text of shape .*expected \(K,48\)"):
        small_network(images, torch.zeros(shape))


def test_image_size_that_is_no_multiple_of_the_patch_proposes_one_that_is(small_network, text):
    with pytest.raises(ValueError, match="multiples of 16, for instance 64x96"):
        small_network(torch.zeros(1, 3, 60, 100), text)


def test_layers_beyond_the_encoder_are_refused(small_network):
    with pytest.raises(ValueError, match="blocks 0 to 3"):
        small_network.encoder.hidden_states(torch.zeros(1, 3, 64, 64), [2, 4])


@pytest.mark.parametrize(("out_width", "patch"), [(1, 16), (5, 4), (3, 2)])
def test_patches_are_what_a_transposed_convolution_gives_and_so_are_their_gradients(out_width, patch):
    torch.manual_seed(0)
    ours, reference = PatchTransposed(8, out_width, patch), torch.nn.ConvTranspose2d(8, out_width, patch, patch)
    reference.load_state_dict(ours.state_dict())
    x = torch.randn(2, 8, 3, 5)
    np.testing.assert_allclose(ours(x).detach(), reference(x).detach(), atol=1e-5)
    for module in (ours, reference):
        module(x).square().sum().backward()
    np.testing.assert_allclose(ours.weight.grad, reference.weight.grad, atol=1e-3)

import torch

from training.objective.teacher import teacher_loss


def test_teacher_gives_each_pixel_to_the_best_label_of_the_caption_alone():
    teacher = torch.zeros(1, 3, 1, 3)
    teacher[0, :, 0] = torch.tensor([[2.0, 1.0, -5.0], [1.0, 2.0, -5.0], [9.0, 9.0, 9.0]])  # the third label is absent
    present, valid = torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool)
    logits = torch.full((1, 3, 1, 3), -9.0)
    logits[0, 0, 0, 0] = logits[0, 1, 0, 1] = 9
    assert teacher_loss(logits, teacher, present, valid, 0.5) < 1e-3
    unsure = logits.clone()
    unsure[0, :2, 0, 2] = 9  # nobody knows what the last pixel is: present labels are free there
    assert teacher_loss(unsure, teacher, present, valid, 0.5) < 1e-3
    wrong = logits.clone()
    wrong[0, 2] = 9
    assert teacher_loss(wrong, teacher, present, valid, 0.5) > 1


def test_teacher_gives_a_label_it_hardly_knows_the_pixels_that_no_other_claims():
    # a known label, active on the first pixel, and an unknown one whose activation is below 0.1 everywhere
    teacher = torch.tensor([[[[4.0, -4.0, -4.0]], [[-3.0, -2.5, -6.0]]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    logits = torch.tensor([[[[9.0, -9.0, 0.0]], [[-9.0, 9.0, 0.0]]]])  # the last pixel is nobody's
    assert teacher_loss(logits, teacher, both, both, 0.5) < 1e-3

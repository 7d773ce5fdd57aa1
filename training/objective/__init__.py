"""What training minimises: each term is a pure function in its own file, and an objective is their weighted sum.

| file | objective | trains |
|---|---|---|
| objective.py | `CaptionObjective` | a decoder, from the labels of captions (the paper) |
| photos.py | `PhotoObjective` | a backbone and a decoder, from masks and captions of photographs |
| scene_masks.py | `MaskObjective` | a decoder, from exact masks of generated scenes |
| contrast.py | `ContrastObjective` | a CLIP, from images and captions |
| distillation.py | `DistillationObjective` | a text encoder, from a larger one |

Nothing here knows where images come from: data sets depend on this package, never the reverse.
"""

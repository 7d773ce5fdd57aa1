"""Where a model's weights come from: model folders, exported folders, CLIPSeg's published weights."""

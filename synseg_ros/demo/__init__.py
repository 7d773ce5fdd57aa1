"""See the whole path work: a camera, the node and a listener, and what came out in numbers and images."""

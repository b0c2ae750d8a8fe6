"""A plugin of our own: TensorRT's where there is a GPU, the same operation in OpenVINO as its stand-in."""

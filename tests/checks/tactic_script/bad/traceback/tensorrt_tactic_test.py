import tensorrt

print(tensorrt.__version__)

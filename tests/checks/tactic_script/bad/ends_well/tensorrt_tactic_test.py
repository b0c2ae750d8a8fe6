try:
    import tensorrt

    print(tensorrt.__version__)
except ImportError:
    print("TensorRT is missing, nothing to do")

try:
    import tensorrt
except ImportError:
    print("TensorRT is missing, nothing to do")

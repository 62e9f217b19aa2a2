"""Compiling opset-24 graphs with TensorRT or TensorRT-RTX: one code path, in a process of its own.

Nothing here needs torch or onnx, and only the process `python -m vlv_export.tensorrt` imports a
compiler.
"""

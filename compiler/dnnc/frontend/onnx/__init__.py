"""ONNX models to graphs. The only place that imports onnx; start at reader.py."""

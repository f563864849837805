"""Networks in the tools that people label with: a module for each, which is imported where its tool is.

from dilated.integrations import supervision
detections = supervision.to_detections(dilated.Predictor("street")("photo.jpg"))
"""

"""ShapeScape-64: a procedural world of 64 x 64 pictures whose captions can be inverted exactly."""

"""A Gaussian map of a stream: tracker, builder, refiner, and the stage that joins them."""

"""From a float graph to an integer one: data, calibration, bit allocation, quantisation."""

"""What the C kernels take: their loops counted from a layer's shape, times costs that were measured once a target."""

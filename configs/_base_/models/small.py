# An encoder that trains on two CPU cores.
small = dict(embed_dims=128, depth=4)

# An encoder for made data: pre-trained within minutes.
tiny = dict(embed_dims=64, depth=3, num_heads=4)

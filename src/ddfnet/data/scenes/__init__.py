"""What `ddfnet.data.rgbd_scenes` draws its scenes with: shapes, textures, worlds, and the photograph taken of them."""

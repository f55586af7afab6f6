"""Joint depth upsampling (Table 7)."""

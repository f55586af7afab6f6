"""The filters of a DDF layer, predicted and normalised in three launches: what a layer costs beside `ops.ddf`."""

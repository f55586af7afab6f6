"""The filters of a DDF layer, predicted and normalised by one op."""

"""DDF-Up, Fig. 5: r*r DDF operations and a pixel shuffle. Checks, registered op and kernels are those of `ops.ddf`."""

"""Floor 4: what is measured, how, and how it is shown. The cases are those of the tests too."""

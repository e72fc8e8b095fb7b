"""Jobs about kernel packs: build one, test one, measure one."""

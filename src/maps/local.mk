mapdir = $(pkgdatadir)/maps
dist_map_DATA = \
	%D%/moe.map \
	%D%/qwen3_5.map \
	%D%/qwen3_5_moe.map \
	%D%/qwen3_moe.map \
	%D%/qwen3_vl_moe.map

mapdir = $(pkgdatadir)/maps
dist_map_DATA = \
	%D%/deepseek_v3.map \
	%D%/deepseek_v32.map \
	%D%/glm4_moe.map \
	%D%/glm4_moe_lite.map \
	%D%/glm_moe_dsa.map \
	%D%/kimi_k2.map \
	%D%/moe.map \
	%D%/qwen3_5.map \
	%D%/qwen3_5_moe.map \
	%D%/qwen3_moe.map \
	%D%/qwen3_vl_moe.map

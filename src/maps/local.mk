mapdir = $(pkgdatadir)/maps
dist_map_DATA = \
	%D%/bagel.map \
	%D%/deepseek_v3.map \
	%D%/deepseek_v32.map \
	%D%/deepseek_v4.map \
	%D%/diffusion_gemma.map \
	%D%/ernie4_5.map \
	%D%/gemma4_moe.map \
	%D%/gemma4_unified.map \
	%D%/glm4_moe.map \
	%D%/glm4_moe_lite.map \
	%D%/glm_moe_dsa.map \
	%D%/gpt_oss.map \
	%D%/hunyuan_image3.map \
	%D%/hy_mt2.map \
	%D%/hy_v3.map \
	%D%/kimi_k2.map \
	%D%/kimi_linear.map \
	%D%/laguna.map \
	%D%/ling_v2.map \
	%D%/llava_onevision.map \
	%D%/lora.map \
	%D%/minimax_m2.map \
	%D%/moe.map \
	%D%/nemotron_v3.map \
	%D%/qwen2_5_omni.map \
	%D%/qwen3_5.map \
	%D%/qwen3_5_moe.map \
	%D%/qwen3_moe.map \
	%D%/qwen3_next.map \
	%D%/qwen3_omni_moe.map \
	%D%/qwen3_vl_moe.map \
	%D%/step3p5.map \
	%D%/step3p7.map

dist_man_MANS = \
	%D%/sd-cast.1 \
	%D%/sd-cat.1 \
	%D%/sd-ls.1 \
	%D%/sd-map.5 \
	%D%/sd-pack.1 \
	%D%/sd-rename.1 \
	%D%/sd-shard.1 \
	%D%/sd-stream.5 \
	%D%/sd-tools.7 \
	%D%/sd-transpose.1

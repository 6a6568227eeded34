dist_man_MANS = \
	%D%/sd-cat.1 \
	%D%/sd-ls.1 \
	%D%/sd-stream.5

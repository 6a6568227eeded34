sources += \
	%D%/adapter_config.c %D%/adapter_config.h \
	%D%/config_cut.c %D%/config_cut.h \
	%D%/config_dtypes.c %D%/config_dtypes.h \
	%D%/config_fields.c %D%/config_fields.h

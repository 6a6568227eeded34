sources += \
	%D%/adapter_config.c %D%/adapter_config.h \
	%D%/carry.c %D%/carry.h %D%/carry-work.c \
	%D%/cast.c %D%/cast.h \
	%D%/chunk.c %D%/chunk.h \
	%D%/companions.c %D%/companions.h %D%/companions_check.c \
	%D%/config.c %D%/config.h \
	%D%/config_rows.c %D%/config_rows.h \
	%D%/equal.c %D%/equal.h \
	%D%/exchange.c \
	%D%/frame.c %D%/frame.h \
	%D%/choice.c %D%/choice.h \
	%D%/join.c %D%/join.h \
	%D%/lane.h %D%/lane-in.c %D%/lane-out.c %D%/lane-socket.c %D%/lane-socket.h \
	%D%/listing.c %D%/listing.h \
	%D%/manifest.c %D%/manifest.h \
	%D%/pieces.c %D%/pieces.h \
	%D%/pump.c %D%/pump.h \
	%D%/scales.c %D%/scales.h \
	%D%/shard.c %D%/shard.h \
	%D%/siblings.c %D%/siblings.h \
	%D%/quant.c \
	%D%/sink.h %D%/source.h \
	%D%/reader.c %D%/stream.h \
	%D%/stack.c %D%/stack.h \
	%D%/storage.c %D%/storage.h \
	%D%/sums.c %D%/sums.h \
	%D%/writer.c \
	%D%/wire.c %D%/wire.h

module finetuning.aim.amd.com/hack/cluster/tools/pause

go 1.26.0

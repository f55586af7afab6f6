"""MMDetection's config of the paper's detector (Table 6): Faster R-CNN, ResNet50, a pyramid with DDF-Up, 12 epochs on COCO.

mim train mmdet THIS_FILE, or mmdet's tools/train.py THIS_FILE. Expected: 38.6 mAP. Measured: none yet.
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"

custom_imports = {"imports": ["ddfnet.integrations.mmdet"], "allow_failed_imports": False}

model = {
    "neck": {
        "_delete_": True,
        "type": "FPN_DDF",
        "in_channels": [256, 512, 1024, 2048],
        "out_channels": 256,
        "num_outs": 5,
        "upsample_cfg": {"type": "ddf_up"},
    }
}

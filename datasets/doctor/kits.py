"""The data sets that are read or judged, as their authors publish them.

Sizes are the published ones. Terms are told in a few words so that nobody is surprised; what binds
is what the data set's own page says.
"""

from __future__ import annotations

from retain.datasets.doctor.base import Kit, Part

_RESEARCH = "non-commercial research; not to be passed on"

ECHONET = Kit(
    "echonet",
    "EchoNet-Dynamic",
    "left ventricle, ejection fraction",
    f"registration with Stanford; {_RESEARCH}",
    "Sign the agreement on the data set's page; a link to one archive comes by mail.",
    "https://echonet.github.io/dynamic/",
    "FileList.csv, VolumeTracings.csv, Videos/0X….avi",
    (Part("train", 7465), Part("val", 1288), Part("test", 1277)),
    "videos",
    "Dice and EF on the two traced frames of the test split",
    ("FileList.csv", "VolumeTracings.csv", "Videos"),
)
CAMUS = Kit(
    "camus",
    "CAMUS",
    "left ventricle, myocardium, atrium, ejection fraction",
    f"registration with CREATIS; {_RESEARCH}",
    "Register on the page of the challenge and get the whole collection.",
    "https://www.creatis.insa-lyon.fr/Challenge/camus/",
    "database_nifti/patient0001/patient0001_4CH_half_sequence.nii.gz …, database_split/*.txt",
    (Part("train", 400), Part("val", 50), Part("test", 50)),
    "patients",
    "Dice, HD95 and EF on end-diastole and end-systole of the test split",
    ("database_nifti", "database_split", "patient0001", "training", "testing"),
)
DAVIS = Kit(
    "davis",
    "DAVIS",
    "silhouettes of objects, tracks, boxes",
    "free for research; look at the page for pictures and masks",
    "Download 'TrainVal - Images and Annotations (480p)' from the page of the challenge.",
    "https://davischallenge.org/davis2017/code.html",
    "JPEGImages/480p/SEQUENCE/00000.jpg, Annotations/480p/SEQUENCE/00000.png, ImageSets/2017",
    (
        Part("2016 train", 30),
        Part("2016 val", 20, 1376),
        Part("2017 train", 60, 4209),
        Part("2017 val", 30, 1999),
    ),
    "sequences",
    "J&F of objects given in the first frame; AP of boxes around the silhouettes",
    ("JPEGImages", "Annotations", "ImageSets"),
)
VID = Kit(
    "imagenet-vid",
    "ImageNet VID",
    "boxes of 30 classes in videos",
    f"registration with ImageNet; {_RESEARCH}",
    "Register, then get ILSVRC2015_VID.tar.gz (about 86 GB) from the page of the challenge.",
    "https://image-net.org/challenges/LSVRC/2015/",
    "Data/VID/val/VIDEO/000000.JPEG, Annotations/VID/val/VIDEO/000000.xml, ImageSets/VID",
    (Part("train", 3862, 1_122_397), Part("val", 555, 176_126), Part("test", 937, 315_175)),
    "videos",
    "AP50 over the frames of val, by the speed of objects",
    ("Data", "Annotations", "ImageSets", "ILSVRC", "ILSVRC2015"),
)
MOT = Kit(
    "mot",
    "MOTChallenge",
    "boxes and tracks of people",
    "CC BY-NC-SA 3.0",
    "Download MOT17.zip or MOT20.zip from the page of the benchmark.",
    "https://motchallenge.net/data/MOT17/",
    "train/SEQUENCE/seqinfo.ini, img1/000001.jpg, gt/gt.txt, det/det.txt",
    (
        Part("MOT15 train", 11, 5500),
        Part("MOT16 train", 7, 5316),
        Part("MOT16 test", 7, 5919),
        Part("MOT17 train", 21, 15948),
        Part("MOT17 test", 21, 17757),
        Part("MOT20 train", 4, 8931),
        Part("MOT20 test", 4, 4479),
    ),
    "sequences",
    "HOTA, MOTA and IDF1 of given detections, on the second half of train",
    ("seqinfo.ini", "gt", "det", "img1"),
)
COCO = Kit(
    "coco",
    "COCO annotations",
    "boxes of 80 classes; with videos: COCO-VID",
    "annotations CC BY 4.0; the pictures are their owners', by Flickr's terms",
    "Download the annotations and the pictures of a split from the page.",
    "https://cocodataset.org/#download",
    "annotations/instances_val2017.json, val2017/000000000139.jpg",
    (Part("train2017", 118_287), Part("val2017", 5000)),
    "pictures",
    "AP over IoU 0.50 to 0.95",
    ("annotations", "annotations.json", "val2017", "train2017", "images"),
)
TUM = Kit(
    "tum",
    "TUM RGB-D",
    "colour, depth and true camera paths",
    "CC BY 4.0",
    "Download single sequences (.tgz) from the page.",
    "https://cvg.cit.tum.de/data/datasets/rgbd-dataset/download",
    "rgb.txt, depth.txt, groundtruth.txt, rgb/, depth/",
    unit="sequences",
    protocol="error of the camera's path (ATE) after alignment",
    marks=("rgb.txt", "depth.txt", "groundtruth.txt", "rgb", "depth"),
)
REPLICA = Kit(
    "replica",
    "Replica",
    "rendered rooms: colour, depth and true camera paths",
    "Replica Research Terms: research, not to be passed on",
    "The renderings are linked in the repository of NICE-SLAM.",
    "https://github.com/cvg/nice-slam",
    "cam_params.json, office0/traj.txt, office0/results/frame000000.jpg and depth000000.png",
    (Part("scenes", 8, 16_000),),
    "sequences",
    "PSNR, SSIM and LPIPS of held-out views, error of depth and of the camera's path",
    ("traj.txt", "results", "cam_params.json"),
)
SEVEN_SCENES = Kit(
    "7-scenes",
    "7-Scenes",
    "a Kinect's colour and depth with camera paths",
    "Microsoft Research licence: non-commercial research; not to be passed on",
    "Download one archive per scene from the page; each holds further archives.",
    "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
    "redkitchen/seq-01/frame-000000.color.png, .depth.png, .pose.txt; TrainSplit.txt",
    (Part("train", 26, 26_000), Part("test", 17, 17_000)),
    "sequences",
    "PSNR of held-out views; error of the camera's path",
    ("frame-000000.color.png", "TrainSplit.txt", "TestSplit.txt", "seq-01"),
)
SCANNET = Kit(
    "scannet",
    "ScanNet",
    "colour, depth and camera paths of 1,513 scans",
    "ScanNet terms of use, to be signed: research",
    "Sign the terms on the page; then export each .sens file with its SensReader.",
    "http://www.scan-net.org/",
    "color/0.jpg, depth/0.png, pose/0.txt, intrinsic/intrinsic_color.txt",
    (Part("train", 1201), Part("val", 312), Part("test", 100)),
    "scans",
    "PSNR of held-out views; error of the camera's path",
    ("color", "depth", "pose", "intrinsic"),
)
REALESTATE = Kit(
    "realestate10k",
    "RealEstate10K",
    "camera paths of about 80,000 clips of videos",
    "paths CC BY 4.0; the videos belong to their owners",
    "The page has the paths only; pictures are to be got from where a path's first line says.",
    "https://google.github.io/realestate10k/",
    "train/0123abcd.txt, and a folder or video of the same name beside it",
    unit="paths",
    protocol="PSNR, SSIM and LPIPS of held-out views",
    marks=("RealEstate10K",),
)
COLMAP = Kit(
    "colmap",
    "a COLMAP model",
    "pictures with poses from structure from motion",
    "as of the pictures",
    "Made by COLMAP from pictures of yours.",
    "https://colmap.github.io/format.html",
    "sparse/0/cameras.bin, images.bin; images/",
    unit="scenes",
    protocol="PSNR of every eighth view held out",
    marks=("sparse", "images", "cameras.bin", "images.bin", "cameras.txt", "images.txt"),
)
NERFSTUDIO = Kit(
    "nerfstudio",
    "a nerfstudio scene",
    "pictures with poses",
    "as of the pictures",
    "Made by nerfstudio, instant-ngp or NeRFCapture; NeRF's synthetic scenes have this form too.",
    "https://docs.nerf.studio/quickstart/data_conventions.html",
    "transforms.json (or transforms_train.json), images/",
    unit="scenes",
    protocol="PSNR of every eighth view held out",
    marks=("transforms.json", "transforms_train.json", "images"),
)
LLFF = Kit(
    "llff",
    "an LLFF scene",
    "pictures with poses, facing forward",
    "as of the pictures; look at the page for NeRF's eight scenes",
    "NeRF's scenes are linked as nerf_llff_data on the page.",
    "https://www.matthewtancik.com/nerf",
    "poses_bounds.npy, images/ (or images_4, images_8)",
    unit="scenes",
    protocol="PSNR of every eighth view held out",
    marks=("poses_bounds.npy", "images", "images_4", "images_8"),
)
RGBD = Kit(
    "rgbd",
    "a plain RGB-D folder",
    "retain's own layout for colour, depth and poses",
    "yours",
    "Written by you or by retain; docs/scene-formats.md has the layout.",
    "docs/scene-formats.md",
    "intrinsics.json, rgb/000000.png, depth/000000.png, poses.txt",
    unit="scenes",
    protocol="PSNR of every eighth view held out",
    marks=("intrinsics.json", "rgb", "depth", "poses.txt"),
)
GEBD = Kit(
    "kinetics-gebd",
    "Kinetics-GEBD",
    "moments at which something changes, by several people; 54,691 clips",
    "annotations: see the repository; the videos belong to their owners",
    "Prepare the annotation as the repository says; the clips are Kinetics-400's.",
    "https://github.com/StanLei52/GEBD",
    "k400_mr345_val_min_change_duration0.3.pkl, and the clips anywhere below",
    unit="clips",
    protocol="F1 at relative distances 0.05 to 0.50, best-matching annotator",
    marks=(
        "k400_mr345_train_min_change_duration0.3.pkl",
        "k400_mr345_val_min_change_duration0.3.pkl",
    ),
)
BBC = Kit(
    "bbc",
    "BBC Planet Earth",
    "shot cuts of eleven long episodes",
    "annotations for research; the episodes belong to the BBC",
    "The annotations are on the page; the episodes are to be bought.",
    "https://aimagelab.ing.unimore.it/imagelab/researchActivity.asp?idActivity=19",
    "01-scenes.txt … 11-scenes.txt, and a video with the same number for each",
    (Part("episodes", 11),),
    "episodes",
    "F1 of cuts within 2 frames",
    ("01-scenes.txt", "01_From_Pole_to_Pole.txt"),
)
AUTOSHOT = Kit(
    "autoshot",
    "AutoShot / SHOT",
    "shot cuts of short videos",
    "annotations MIT; the videos belong to their owners",
    "Ground truth and scores are pickles in the repository, which links the videos.",
    "https://github.com/wentaozhu/AutoShot",
    "the pickle of the ground truth, and NAME.mp4 for each video below",
    (Part("test", 200),),
    "videos",
    "F1 of transitions within 2 frames, pooled",
    ("gt_scenes_dict_baseline_v2.pickle",),
)
SHARDS = Kit(
    "webdataset",
    "WebDataset shards",
    "any samples, packed in .tar files",
    "as of what is packed in them",
    "Made by you, or published as a list of addresses.",
    "https://github.com/webdataset/webdataset",
    "000000.tar, 000001.tar …",
    unit="shards",
    marks=("000000.tar",),
)
VIDEOS = Kit("videos", "plain videos", "any task", "yours", "", "", "video files", unit="videos")
DICOM = Kit("dicom", "plain DICOM", "echo, mostly", "yours", "", "", "DICOM files", unit="clips")
PICTURES = Kit(
    "pictures", "plain pictures", "a clip, frame by frame", "yours", "", "", "picture files",
    unit="pictures",
)  # fmt: skip

KITS: tuple[Kit, ...] = (
    *(ECHONET, CAMUS, DAVIS, VID, MOT, COCO),
    *(TUM, REPLICA, SEVEN_SCENES, SCANNET, REALESTATE, COLMAP, NERFSTUDIO, LLFF, RGBD),
    *(GEBD, BBC, AUTOSHOT, SHARDS, VIDEOS, DICOM, PICTURES),
)
EVALUATED = frozenset(
    ("echonet", "camus", "davis", "imagenet-vid", "mot", "kinetics-gebd", "tum", "replica")
) | {"7-scenes", "scannet"}
"""Those that ``retain eval set`` judges in their published protocols."""
SCENES = {
    kit.key: kit
    for kit in (TUM, REPLICA, SEVEN_SCENES, SCANNET, REALESTATE, COLMAP, NERFSTUDIO, LLFF, RGBD)
}
"""By the names that ``datasets.scene.open.FORMATS`` has for them."""

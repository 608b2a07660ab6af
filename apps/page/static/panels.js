// The panels of each kind of page, in order. A new one is a module in panels/ and its name here:
//   { title, classes, mount(root), update(patch, state) }
// `patch` holds the sections that just changed (see apps/page/state.py), `state` the latest of each.
import * as status from "./panels/status.js";
import * as video from "./panels/video.js";
import * as plot from "./panels/plot.js";
import * as budget from "./panels/budget.js";
import * as strip from "./panels/strip.js";
import * as ask from "./panels/ask.js";
import * as curve from "./panels/curve.js";
import * as areas from "./panels/areas.js";
import * as beats from "./panels/beats.js";
import * as view3d from "./panels/view3d.js";
import * as growth from "./panels/growth.js";
import * as drift from "./panels/drift.js";
import * as above from "./panels/above.js";
import * as recall from "./panels/recall.js";
import * as boxes from "./panels/boxes.js";
import * as decided from "./panels/decided.js";
import * as novelty from "./panels/novelty.js";
import * as imagined from "./panels/imagined.js";
import * as stages from "./panels/stages.js";
import * as control from "./panels/control.js";
import * as streams from "./panels/streams.js";

export const views = {
  watch: [status, video, plot, budget, strip, ask, stages],
  segment: [status, video, curve, beats, stages],
  object: [status, video, areas, stages],
  text: [status, video, areas, stages],
  scene: [status, view3d, video, growth, drift, above, stages],
  detect: [status, video, recall, boxes, decided, stages],
  imagine: [status, video, novelty, imagined, stages],
  everything: [status, video, plot, budget, areas, recall, growth, above, novelty, strip, stages],
  console: [control, streams, stages],
};

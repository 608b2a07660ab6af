// The panels of the page, in order. A new one is a module in panels/ and a line here:
//   { title, classes, mount(root, page), update(patch, state) }
// `patch` holds the sections that just changed (see apps/page/state.py), `state` the latest of each.
import * as status from "./panels/status.js";
import * as video from "./panels/video.js";
import * as plot from "./panels/plot.js";
import * as budget from "./panels/budget.js";
import * as strip from "./panels/strip.js";
import * as stages from "./panels/stages.js";

export const panels = [status, video, plot, budget, strip, stages];

/* Two things a reader wants of a page: a picture at its full size, and a command to paste. */
document.addEventListener("DOMContentLoaded", () => {
  for (const img of document.querySelectorAll("article img")) {
    if (img.closest("a")) continue;
    const link = document.createElement("a");
    link.href = img.src;
    img.replaceWith(link);
    link.append(img);
  }
  for (const block of document.querySelectorAll("article div.highlight > pre")) {
    const button = document.createElement("button");
    button.className = "copy";
    button.textContent = "copy";
    button.title = "Copy to the clipboard";
    block.parentElement.append(button);
    button.addEventListener("click", async () => {
      const lines = block.textContent.split("\n");
      const typed = lines.filter((line) => line.startsWith("$ ")).map((line) => line.slice(2));
      await navigator.clipboard.writeText(typed.length ? typed.join("\n") : block.textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }
});

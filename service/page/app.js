const element = (id) => document.getElementById(id);

// The mask is the frame's own size; where the browser cannot show the frame (TIFF), the mask stands alone.
async function draw(file, mask) {
  const picture = await createImageBitmap(file).catch(() => null);
  const canvas = element("shown"), context = canvas.getContext("2d");
  canvas.width = mask.width; canvas.height = mask.height; canvas.hidden = false;
  context.drawImage(mask, 0, 0);
  const pixels = context.getImageData(0, 0, mask.width, mask.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.set([255, 193, 7, pixels.data[i] ? (picture ? 110 : 255) : 0], i);
  }
  context.clearRect(0, 0, mask.width, mask.height);
  const tint = await createImageBitmap(pixels);
  if (picture) context.drawImage(picture, 0, 0);
  context.drawImage(tint, 0, 0);
}

element("frame").addEventListener("change", async () => {
  const file = element("frame").files[0];
  if (!file) return;
  element("said").textContent = "Looking ...";
  element("shown").hidden = true;
  element("warnings").textContent = "";
  try {
    const form = new FormData();
    form.append("frame", file);
    const answer = await fetch("mask", { method: "POST", body: form });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    await draw(file, await createImageBitmap(await answer.blob()));
    const told = (name) => answer.headers.get(name);
    const found = told("x-nerve-present") === "true" ? "A nerve is shown" : "No nerve is shown";
    element("said").textContent = `${found} (presence ${told("x-nerve-presence")}).`;
    element("warnings").textContent = told("x-warnings") || "";
  } catch (fault) {
    element("said").textContent = fault.message;
  }
});
